"""The suite for samplers finds what is wrong with each of these, and nothing in the first."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pytest
from msgspec import Meta

from corral_kernel.contracts import Candidates, JobView, Sampler, SamplerOptions, SamplerType
from corral_kernel.testing import SamplerSuite, run_suite


class ShiftOptions(SamplerOptions, frozen=True, kw_only=True):
    shift: Annotated[float, Meta(ge=0, le=5, description="added to even tokens; 0: off")] = 0.0


class UndocumentedOptions(SamplerOptions, frozen=True, kw_only=True):
    shift: float = 0.0


class Shift(Sampler):
    """Sound: raises even tokens, by its field and by its job's own number."""

    def __init__(self, options: Any, job: JobView) -> None:
        self.amount = options.shift
        self.job = job
        self.seen: list[int] = []

    def apply(self, candidates: Candidates) -> None:
        ids = np.arange(len(candidates)) if candidates.ids is None else candidates.ids
        candidates.logits[ids % 2 == 0] += np.float32(self.amount * self.job.random())

    def accept(self, token_id: int) -> None:
        self.seen.append(token_id)


class ShiftType(SamplerType):
    name = "shift"
    options: type[SamplerOptions] = ShiftOptions
    docs = "raises even tokens"
    make: type[Shift] = Shift

    def enabled(self, options: Any) -> bool:
        return bool(options.shift != 0)

    def start(self, options: Any, job: JobView) -> Sampler:
        return self.make(options, job)


def kind(apply: Callable[..., None] | None = None, **changes: Any) -> SamplerType:
    members: dict[str, Any] = {} if apply is None else {"apply": apply}
    members |= {
        name: changes.pop(name) for name in ("keeps_order", "keeps_best") if name in changes
    }
    made = type("Changed", (Shift,), members)
    changed = type("ChangedType", (ShiftType,), {"make": made, **changes})()
    assert isinstance(changed, SamplerType)
    return changed


def errors(kind: SamplerType) -> dict[str, str]:
    suite = type("Suite", (SamplerSuite,), {"kind": kind, "cases": ({"shift": 3},)})
    return {outcome.test: outcome.error for outcome in run_suite(suite) if outcome.error}


def test_a_sound_sampler_passes() -> None:
    assert errors(kind()) == {}


def nothing(self: Shift, candidates: Candidates) -> None: ...


def drop_all(self: Shift, candidates: Candidates) -> None:
    candidates.keep(np.zeros(len(candidates), bool))


def forbid_all(self: Shift, candidates: Candidates) -> None:
    candidates.logits[:] = -np.inf


def fail_alone(self: Shift, candidates: Candidates) -> None:
    candidates.logits[1] += 1


def doubles(self: Shift, candidates: Candidates) -> None:
    candidates.logits = candidates.logits.astype(np.float64)


def invent(self: Shift, candidates: Candidates) -> None:
    candidates.ids = np.arange(len(candidates), dtype=np.int32)[::-1] + np.int32(1)


def twice(self: Shift, candidates: Candidates) -> None:
    candidates.keep(np.zeros(2, int))


def make_nan(self: Shift, candidates: Candidates) -> None:
    candidates.logits -= candidates.logits.min()


def answer(self: Shift, candidates: Candidates) -> Any:
    return candidates


def reverse(self: Shift, candidates: Candidates) -> None:
    candidates.logits *= -1


def write_ids(self: Shift, candidates: Candidates) -> None:
    if candidates.ids is not None:
        candidates.ids.sort()


def dice(self: Shift, candidates: Candidates) -> None:
    candidates.logits += np.float32(np.random.default_rng().random())


def count_calls(self: Shift, candidates: Candidates) -> None:
    self.amount += 1
    candidates.logits[0] += np.float32(self.amount)


SHARED: list[int] = []


def remember_for_all(self: Shift, candidates: Candidates) -> None:
    SHARED.append(1)
    candidates.logits[0] += np.float32(len(SHARED))


def fail_on_wide(self: Shift, candidates: Candidates) -> None:
    assert len(candidates) < 100_000


def fail_on_infinite(self: Shift, candidates: Candidates) -> None:
    if candidates.logits.max() == np.inf:
        raise OverflowError("inf")


def raise_invalid(self: SamplerType, options: Any) -> None:
    raise ValueError("no")


def refuse_token_256(self: Shift, token_id: int) -> None:
    if token_id == 256:
        raise KeyError(token_id)


@pytest.mark.parametrize(
    ("broken", "test", "words"),
    [
        (kind(drop_all), "something is left", "left no candidate"),
        (kind(forbid_all), "something is left", "left no token that has a chance"),
        (kind(fail_alone), "something is left", "raised IndexError"),
        (kind(doubles), "something is left", "left logits of float64"),
        (kind(invent), "something is left", "made up tokens"),
        (kind(twice), "something is left", "left a token twice"),
        (kind(make_nan), "something is left", "made NaN"),
        (kind(answer), "something is left", "it is to change its candidates"),
        (kind(fail_on_wide), "a wide row", "raised AssertionError"),
        (kind(fail_on_infinite), "infinitely likely", "raised OverflowError: inf"),
        (kind(reverse, keeps_order=True), "keeps order", "the likeliest is not first"),
        (kind(keeps_order=True), "keeps order", "the likeliest is not first"),
        (kind(reverse, keeps_best=True), "keeps best", "another token is likeliest"),
        (kind(write_ids), "nothing but its candidates", "wrote into the ids"),
        (kind(dice), "equal seeds", "the candidates differ"),
        (kind(count_calls), "asked twice", "the candidates differ"),
        (kind(remember_for_all), "jobs know nothing", "the candidates differ"),
        (kind(accept=refuse_token_256), "", ""),
        (kind(name=""), "it has a name", "it has no name"),
        (kind(name="no name"), "it has a name", "is no identifier"),
        (kind(docs=""), "it has a name", "needs `docs`"),
        (kind(default_place=float("nan")), "it has a name", "default_place is nan"),
        (kind(options=UndocumentedOptions), "its options have", "has no Meta(description=…)"),
        (kind(options=dict), "its options have", "are no SamplerOptions"),
        (kind(enabled=lambda _, options: options.shift), "enabled says", "wanted a bool"),
        (kind(check=raise_invalid), "check refuses", "raised ValueError"),
        (kind(start=lambda *_: None), "it takes any token", "not a Sampler"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named(broken: SamplerType, test: str, words: str) -> None:
    found = errors(broken)
    if not test:  # `accept` of the type changes nothing; that of its sampler does
        assert found == {}
        return
    named = [error for sentence, error in found.items() if sentence.startswith(test)]
    assert len(named) == 1, found
    assert words in named[0]


def test_any_token_may_be_accepted() -> None:
    made = type("Picky", (Shift,), {"accept": refuse_token_256})
    assert "raised KeyError: 256" in errors(kind(make=made))["it takes any token"]


def test_a_case_of_an_unknown_field_is_a_mistake_of_the_test() -> None:
    suite = type("Suite", (SamplerSuite,), {"kind": kind(), "cases": ({"shfit": 3},)})
    assert any("unknown fields: shfit" in outcome.error for outcome in run_suite(suite))
