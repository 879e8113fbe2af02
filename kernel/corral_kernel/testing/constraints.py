"""What the contract asks of a constraint."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Constraint, ConstraintType, Tokenizer
from corral_kernel.errors import InvalidFormatError
from corral_kernel.given import SCHEMA_TYPES
from corral_kernel.testing.suites import EVERYTHING, ContractBrokenError, attempt, demand
from corral_kernel.testing.tokenizers import PieceTokenizer
from corral_kernel.testing.walks import PADDING, Walk, walks

_JUNK: tuple[Any, ...] = (None, True, -1, 1e300, "", "\0", [], [None], {}, {"": None})
_STANDARD: dict[str, tuple[Any, ...]] = {
    "json": ("json",),
    "schema": (
        {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    ),
}
_MOST_ASKED = (
    40  # tokens that a mask allows, of which a walk's step tries each on a fresh constraint
)


class ConstraintSuite:
    """Tests of one constraint type.

    Attributes:
        kind: The type, set by a subclass.
        specs: Formats that it takes, as decoded from JSON; empty: its `examples`.
        bad_specs: Formats that its `check` refuses.
        tokenizer: Whose tokens answers are made of.
    """

    kind: ClassVar[ConstraintType]
    specs: ClassVar[Sequence[Any]] = ()
    bad_specs: ClassVar[Sequence[Any]] = ()
    tokenizer: ClassVar[Tokenizer] = PieceTokenizer()

    @classmethod
    def formats(cls) -> Sequence[Any]:
        """Give the formats that it is tried with; copies, since a `check` may change them."""
        own = cls.specs or cls.kind.examples or _STANDARD.get(cls.kind.name, ())
        demand(own, f"nothing to try {cls.kind.name} with: set `examples` of its type")
        return copy.deepcopy(list(own))

    def finished_text(self, spec: Any, text: bytes) -> None:
        """Look at a finished answer: a subclass raises if it is not what the format asks for."""

    # ------------------------------------------------------------------------ what it says

    def test_its_name_is_no_type_of_json_schema(self) -> None:
        """A format object of such a type is a JSON Schema."""
        name = getattr(self.kind, "name", None)
        demand(isinstance(name, str) and name, "it has no name")
        demand(name not in SCHEMA_TYPES, f"a constraint may not be named {name!r}")

    def test_check_takes_good_formats_and_leaves_them_as_they_are(self) -> None:
        """It is asked in the server, and the format goes on to the worker."""
        for spec in self.formats():
            before = copy.deepcopy(spec)
            attempt(f"check({spec!r})", self.kind.check, spec)
            demand(spec == before, f"check changed its format to {spec!r}")

    def test_check_refuses_by_invalid_format_errors_alone(self) -> None:
        """Anything else would be an error of the plugin's, not of the request's."""
        for spec in self.bad_specs:
            demand(not self._takes(spec), f"check takes {spec!r}, one of bad_specs")
        for spec in _mutated(self.formats()):
            self._takes(spec)

    def test_what_check_takes_compiles_or_is_refused_in_words(self) -> None:
        """A request's format fails its own request, never the worker."""
        for spec in _mutated(self.formats()):
            if self._takes(spec):
                try:
                    self.kind.compile(spec, self.tokenizer, self._vocab_size)
                except InvalidFormatError:
                    continue
                except EVERYTHING as error:
                    what = f"compile({spec!r}) raised {type(error).__name__}: {error}"
                    raise ContractBrokenError(f"{what}; wanted InvalidFormatError") from error

    # ------------------------------------------------------------------------ what it does

    def test_mask_and_accept_agree_on_every_token(self) -> None:
        """One says of all tokens what the other says of one."""
        for walk in self._walks():
            allowed = walk.allowed()
            if walk.ended:
                continue
            demand(allowed.any(), f"{walk} allows nothing, not even the end")
            # Where something is forced, a mask may hold that alone, though other tokens begin
            # with the same text; the worker does not ask for it there.
            forced = bool(walk.constraint.forced())
            for token_id in [] if forced else walk.asked(~allowed):
                taken = walk.constraint.accept(token_id)
                demand(not taken, f"{walk}: accept takes {token_id}, which its mask forbids")
            for token_id in walk.some(allowed, _MOST_ASKED):
                taken = walk.again().constraint.accept(token_id)
                demand(taken is True, f"{walk}: accept refuses {token_id}, which its mask allows")

    def test_a_refused_token_changes_nothing(self) -> None:
        """After False it stands where it stood."""
        for walk in self._walks():
            before, forced = walk.state(), bool(walk.constraint.forced())
            unlikely = ~walk.allowed()
            asked = walk.some(unlikely, _MOST_ASKED) if forced else walk.asked(unlikely)
            for token_id in asked:
                if not forced or not walk.again().constraint.accept(token_id):
                    walk.constraint.accept(token_id)
            demand(walk.state() == before, f"{walk} changed by tokens that it refused")

    def test_mask_overwrites_its_words_and_no_others(self) -> None:
        """What it is given held the mask of an earlier token; it may lie within a larger array."""
        for walk in self._walks():
            words = -(-self._vocab_size // 32)
            masks: list[NDArray[np.uint8]] = []
            for fill in (0, 0xFFFF_FFFF, 0x5A5A_5A5A):
                room = np.full(words + 2, fill, np.uint32)
                given = walk.constraint.mask(room[1:-1])
                demand(isinstance(given, bool), f"{walk}: mask gave {given!r}, wanted a bool")
                demand(room[0] == fill == room[-1], f"{walk}: mask wrote beside its words")
                if not given:
                    demand((room == fill).all(), f"{walk}: mask said False, yet wrote")
                masks.append(walk.bits(room[1:-1]) if given else np.ones(0, np.uint8))
            same = all(np.array_equal(mask, masks[0]) for mask in masks)
            demand(same, f"{walk}: mask lets something stand of what was there before")

    def test_forced_tokens_are_accepted_in_turn(self) -> None:
        """They are appended to the answer unasked."""
        for walk in self._walks():
            forced = [int(token_id) for token_id in walk.constraint.forced()]
            demand(walk.state() == walk.again().state(), f"{walk} changed by being asked forced()")
            ahead = walk.again()
            for token_id in forced:
                demand(ahead.allowed()[token_id], f"{ahead}: forces {token_id}, not in its mask")
                demand(ahead.take(token_id), f"{ahead}: forces {token_id}, and refuses it")

    def test_allows_counts_what_accept_would_take(self) -> None:
        """It is asked of drafts, before they are known to come true."""
        if type(self._compiled(self.formats()[0])).allows is Constraint.allows:
            return  # the contract's own: no drafts
        for walk in self._walks():
            before = walk.state()
            for drafts in walk.drafts():
                told = walk.constraint.allows(drafts)
                demand(walk.state() == before, f"{walk} changed by allows({drafts})")
                taken = walk.again().take_all(drafts)
                demand(told == taken, f"{walk}: allows({drafts}) is {told}, accept takes {taken}")

    def test_once_finished_only_the_end_may_follow(self) -> None:
        """An answer that is finished is ended by the worker, without asking the model."""
        for walk in self._walks():
            if walk.constraint.finished() and not walk.ended:
                allowed = walk.allowed()
                allowed[sorted(self.tokenizer.end_ids)] = False
                demand(not allowed.any(), f"{walk} is finished, yet allows more than its end")

    def test_after_the_end_nothing_is_accepted(self) -> None:
        """End ids are tokens like others: one ends the answer."""
        for walk in self._walks():
            if walk.ended:
                for token_id in range(0, len(self.tokenizer.pieces), 5):
                    demand(
                        not walk.constraint.accept(token_id),
                        f"{walk}: {token_id} is accepted after the end",
                    )

    def test_finished_answers_are_what_was_asked_for(self) -> None:
        """As a subclass's `finished_text` sees it."""
        for spec in self.formats():
            for walk in walks(self, spec):
                if walk.ended or walk.constraint.finished():
                    self.finished_text(spec, walk.text())

    def test_jobs_of_one_format_know_nothing_of_each_other(self) -> None:
        """Compiled forms may be shared, states never."""
        for spec in self.formats():
            first, second = Walk(self, spec), Walk(self, spec)
            before = second.state()
            demand(first.state() == before, f"two constraints of {spec!r} begin differently")
            first.stroll(steps=6, seed=3)
            demand(first.taken, f"{first} allows nothing, though its job has just begun")
            demand(second.state() == before, f"{spec!r}: a job changed by another one's tokens")
            again = Walk(self, spec).state()
            demand(again == before, f"{spec!r}: a job changed by one that was before it")

    def test_each_tokenizer_has_its_own_form(self) -> None:
        """A worker's format may come back with another model, whose ids mean other texts."""
        other = type("Other", (type(self),), {"tokenizer": PieceTokenizer(backwards=True)})()
        plain = type("Plain", (type(self),), {"tokenizer": PieceTokenizer()})()
        for spec in self.formats():
            allowed = [Walk(suite, spec).pieces() for suite in (plain, other, plain)]
            same = allowed[0] == allowed[1] == allowed[2]
            demand(same, f"{spec!r} allows other texts where the same texts have other ids")

    # -------------------------------------------------------------------- how it is tried

    @property
    def _vocab_size(self) -> int:
        return len(self.tokenizer.pieces) + PADDING

    def _compiled(self, spec: Any) -> Constraint:
        return Walk(self, spec).constraint

    def _walks(self) -> Iterator[Walk]:
        for spec in self.formats():
            yield from walks(self, spec)

    def _takes(self, spec: Any) -> bool:
        try:
            self.kind.check(spec)
        except InvalidFormatError as error:
            demand(str(error), f"check({spec!r}) refuses without a word")
            return False
        except EVERYTHING as error:
            what = f"check({spec!r}) raised {type(error).__name__}: {error}"
            raise ContractBrokenError(f"{what}; wanted InvalidFormatError") from error
        return True


def _mutated(specs: Sequence[Any]) -> Iterator[Any]:
    """Formats with a key left out, one too many, or a value of another type."""
    for spec in specs:
        if not isinstance(spec, dict):
            yield from _JUNK
            continue
        yield {**spec, "surplus": 1}
        for key in spec:
            if key != "type":
                yield {name: value for name, value in spec.items() if name != key}
                yield from ({**spec, key: junk} for junk in _JUNK)
