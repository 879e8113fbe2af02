"""The suite for constraints finds what is wrong with each of these, and nothing with the first."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from corral_kernel.contracts import Constraint, ConstraintType, Tokenizer
from corral_kernel.errors import InvalidFormatError
from corral_kernel.testing import ConstraintSuite, run_suite

A, B, END = ord("a"), ord("b"), 257
IDS: dict[bytes, int] = {}


class Steps(Constraint):
    """Sound: a, then b, then a or b, then the end."""

    def __init__(self, a: int, b: int) -> None:
        self.steps = [{a}, {b}, {a, b}, {END}]
        self.taken: list[int] = []

    def now(self) -> set[int]:
        return self.steps[len(self.taken)] if len(self.taken) < len(self.steps) else set()

    def mask(self, out: Any) -> bool:
        out[:] = 0
        for token in self.now():
            out[token // 32] |= np.uint32(1 << token % 32)
            if token == END:
                out[258 // 32] |= np.uint32(1 << 258 % 32)
        return True

    def accept(self, token_id: int) -> bool:
        if (END if token_id == 258 else token_id) not in self.now():
            return False
        self.taken.append(token_id)
        return True

    def forced(self) -> Sequence[int]:
        now = self.now()
        return sorted(now) if len(now) == 1 and now != {END} else ()

    def allows(self, token_ids: Sequence[int]) -> int:
        taken = list(self.taken)
        count = 0
        while count < len(token_ids) and self.accept(token_ids[count]):
            count += 1
        self.taken = taken
        return count

    def finished(self) -> bool:
        return len(self.taken) >= 3


class StepsType(ConstraintType):
    name = "steps"
    examples = ({"type": "steps", "deep": {}},)
    make: type[Steps] = Steps

    def check(self, spec: Any) -> None:
        if not isinstance(spec, dict) or not isinstance(spec.get("deep"), dict):
            raise InvalidFormatError("format at #/deep: wanted an object")

    def compile(self, spec: Any, tokenizer: Tokenizer, vocab_size: int) -> Constraint:
        assert vocab_size > len(tokenizer.pieces)
        self.check(spec)
        return self.make(tokenizer.pieces.index(b"a"), tokenizer.pieces.index(b"b"))


def kind(on_type: dict[str, Any] | None = None, **changes: Any) -> ConstraintType:
    made = type("Changed", (Steps,), changes)
    changed = type("ChangedType", (StepsType,), {"make": made, **(on_type or {})})()
    assert isinstance(changed, ConstraintType)
    return changed


def errors(kind: ConstraintType, **members: Any) -> dict[str, str]:
    suite = type("Suite", (ConstraintSuite,), {"kind": kind, **members})
    return {outcome.test: outcome.error for outcome in run_suite(suite) if outcome.error}


def test_a_sound_constraint_passes() -> None:
    assert errors(kind(), bad_specs=("steps", {"type": "steps"})) == {}


def test_one_that_answers_no_drafts_passes() -> None:
    assert errors(kind(allows=Constraint.allows)) == {}


def allow_all(self: Steps, out: Any) -> bool:
    return False


def mask_too_much(self: Steps, out: Any) -> bool:
    Steps.mask(self, out)
    out[0] |= np.uint32(1 << 7)
    return True


def mask_on_top(self: Steps, out: Any) -> bool:
    for token in self.now():
        out[token // 32] |= np.uint32(1 << token % 32)
    return True


def mask_and_say_false(self: Steps, out: Any) -> bool:
    Steps.mask(self, out)
    return False


def mask_beside(self: Steps, out: Any) -> bool:
    Steps.mask(self, out)
    out.base[-1] = 1
    return True


def dead_end(self: Steps) -> set[int]:
    return set() if self.taken else {A}


def take_and_refuse(self: Steps, token_id: int) -> bool:
    taken = Steps.accept(self, token_id)
    if not taken and len(self.taken) < 2:
        self.taken.append(token_id)
    return taken


def force_wrongly(self: Steps) -> Sequence[int]:
    return [A]


def force_and_go(self: Steps) -> Sequence[int]:
    forced = Steps.forced(self)
    self.taken.extend(forced)
    return forced


def allow_too_many(self: Steps, token_ids: Sequence[int]) -> int:
    return len(token_ids)


def allow_and_go(self: Steps, token_ids: Sequence[int]) -> int:
    count = 0
    while count < len(token_ids) and self.accept(token_ids[count]):
        count += 1
    return count


def finish_early(self: Steps) -> bool:
    return bool(self.taken)


def share(self: StepsType, *_: Any, one: list[Steps] = []) -> Constraint:  # noqa: B006 - the fault
    one[:] = one or [Steps(A, B)]
    one[0].taken = one[0].taken[:2]
    return one[0]


def cache_by_text(self: StepsType, _: Any, tokenizer: Tokenizer, *__: Any) -> Constraint:
    ids = [IDS.setdefault(text, tokenizer.pieces.index(text)) for text in (b"a", b"b")]
    return Steps(*ids)


def change(self: StepsType, spec: Any) -> None:
    StepsType.check(self, spec)
    spec["seen"] = True


def fail(self: StepsType, spec: Any) -> None:
    spec["deep"].keys()


def fail_to_compile(self: StepsType, spec: Any, *_: Any) -> Constraint:
    return Steps(spec["nothing"], B)


@pytest.mark.parametrize(
    ("broken", "test", "words"),
    [
        (kind(mask=allow_all), "mask and accept", "which its mask allows"),
        (kind(mask=mask_too_much), "mask and accept", "accept refuses 7, which its mask allows"),
        (kind(mask=mask_on_top), "mask overwrites", "lets something stand"),
        (kind(mask=mask_and_say_false), "mask overwrites", "said False, yet wrote"),
        (kind(mask=mask_beside), "mask overwrites", "wrote beside its words"),
        (kind(now=dead_end), "mask and accept", "allows nothing, not even the end"),
        (kind(accept=take_and_refuse), "a refused token", "changed by tokens that it refused"),
        (kind(forced=force_wrongly), "forced tokens", "not in its mask"),
        (kind(forced=force_and_go), "forced tokens", "changed by being asked forced()"),
        (kind(allows=allow_too_many), "allows counts", "accept takes"),
        (kind(allows=allow_and_go), "allows counts", "changed by allows"),
        (kind(finished=finish_early), "once finished", "yet allows more than its end"),
        (kind(finished=lambda _: 1), "a refused token", "finished gave 1, wanted a bool"),
        (kind({"compile": share}), "jobs of one format", "changed"),
        (kind({"compile": cache_by_text}), "each tokenizer", "where the same texts have other ids"),
        (kind({"name": "string"}), "its name", "may not be named 'string'"),
        (kind({"check": change}), "check takes good", "check changed its format"),
        (kind({"check": fail}), "check refuses", "wanted InvalidFormatError"),
        (kind({"compile": fail_to_compile}), "what check takes", "raised KeyError"),
        (kind({"compile": lambda *_: None}), "allows counts", "not a Constraint"),
        (kind({"examples": ()}), "check takes good", "set `examples` of its type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named(broken: ConstraintType, test: str, words: str) -> None:
    IDS.clear()
    found = errors(broken)
    named = [error for sentence, error in found.items() if sentence.startswith(test)]
    assert len(named) == 1, found
    assert words in named[0]


def test_bad_formats_that_are_taken_are_named() -> None:
    found = errors(kind(), bad_specs=({"type": "steps", "deep": {}},))
    assert list(found) == ["check refuses by invalid format errors alone"]


def test_a_subclass_may_look_at_finished_answers() -> None:
    seen: list[bytes] = []

    def look(self: ConstraintSuite, spec: Any, text: bytes) -> None:
        seen.append(text)

    assert errors(kind(), finished_text=look) == {}
    assert set(seen) == {b"aba", b"abb"}
