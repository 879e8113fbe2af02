"""What the contract asks of a sampler."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Sampler, SamplerOptions, SamplerType, Tokenizer
from corral_kernel.errors import InvalidOptionError
from corral_kernel.fields import fields_of
from corral_kernel.sampling import HistoryView
from corral_kernel.sampling.chain import PlacedView
from corral_kernel.testing.samples import option_values, rows, shapes
from corral_kernel.testing.suites import (
    EVERYTHING,
    ContractBrokenError,
    attempt,
    demand,
    demand_documented,
)
from corral_kernel.testing.tokenizers import PieceTokenizer

_CONTEXT_TOKENS = 512
_SEED = 7
_WIDE = 150_000
_STEPS = 6
_PLACE = 3  # of the sampler in its chain

Snapshot = tuple[list[int], NDArray[np.float32]]


class Run:
    """One job of a sampler: its view, and the object that `start` made."""

    def __init__(self, suite: "SamplerSuite", options: Any, prompt: Sequence[int] = ()) -> None:
        self.view = HistoryView(suite.tokenizer, prompt, _CONTEXT_TOKENS, _SEED)
        self._kind, self._options = suite.kind, options
        place = PlacedView(self.view, _PLACE)
        self.sampler: Sampler = attempt(f"start({options})", suite.kind.start, options, place)
        demand(
            isinstance(self.sampler, Sampler),
            f"start({options}) gave {type(self.sampler).__name__}, not a Sampler",
        )

    def apply(self, candidates: Candidates, what: str) -> None:
        """Apply it, with rows of its companions beside."""
        generator = np.random.default_rng(5)
        width = len(self.view.tokenizer.pieces)
        candidates.companion_logits = [
            generator.normal(0, 3, width).astype(np.float32)
            for _ in self._kind.companions(self._options)
        ]
        with np.errstate(all="ignore"):  # as the worker calls it
            given = attempt(f"apply on {what}", self.sampler.apply, candidates)
        demand(given is None, f"apply on {what} gave {given!r}; it is to change its candidates")

    def accept(self, token_id: int) -> None:
        """Let a token join the answer."""
        attempt(f"accept({token_id})", self.sampler.accept, token_id)
        self.view.append([token_id])


class SamplerSuite:
    """Tests of one sampler type.

    Attributes:
        kind: The type, set by a subclass.
        cases: Fields to try beside those that the suite makes up, as a request's JSON has them.
        tokenizer: Whose tokens are sampled.
    """

    kind: ClassVar[SamplerType]
    cases: ClassVar[Sequence[Mapping[str, Any]]] = ()
    tokenizer: ClassVar[Tokenizer] = PieceTokenizer()

    # ------------------------------------------------------------------------ what it says

    def test_it_has_a_name_and_a_line_of_docs(self) -> None:
        """Both are shown to people, and the name is typed by them."""
        name = getattr(self.kind, "name", None)
        demand(isinstance(name, str) and name, "it has no name")
        demand(str(name).isidentifier(), f"its name {name!r} is no identifier, as options are")
        docs = self.kind.docs
        demand(docs and "\n" not in docs, f"sampler {name} needs `docs` of one line")
        place = self.kind.default_place
        demand(
            place is None or np.isfinite(place),
            f"default_place is {place!r}, wanted a number or None",
        )
        replaced = self.kind.replaces
        demand(
            isinstance(replaced, tuple) and all(isinstance(other, str) for other in replaced),
            f"replaces is {replaced!r}, wanted a tuple of names",
        )

    def test_its_options_have_defaults_and_descriptions(self) -> None:
        """Each field can be left out, and is explained."""
        options, whose = self.kind.options, f"sampler {self.kind.name}"
        demand(
            isinstance(options, type) and issubclass(options, SamplerOptions),
            f"the options of {whose} are no SamplerOptions",
        )
        demand_documented(options, whose, inherited=SamplerOptions)

    def test_its_options_survive_the_way_to_the_worker(self) -> None:
        """They travel as plain values, and are made anew there."""
        for options in self._all_options():
            plain = msgspec.msgpack.decode(msgspec.msgpack.encode(msgspec.to_builtins(options)))
            made = attempt(f"making {options} anew", _made, self.kind.options, plain)
            demand(made == options, f"{options} came back as {made}")

    def test_enabled_says_yes_or_no_and_the_same_each_time(self) -> None:
        """It is asked in the server, for each request."""
        for options in self._all_options():
            first = attempt(f"enabled({options})", self.kind.enabled, options)
            demand(isinstance(first, bool), f"enabled({options}) gave {first!r}, wanted a bool")
            demand(first == self.kind.enabled(options), f"enabled({options}) changes its mind")

    def test_check_refuses_by_invalid_option_errors_alone(self) -> None:
        """Anything else would be an error of the plugin's, not of the request's."""
        attempt("check of its defaults", self.kind.check, self.kind.options())
        for options in self._all_options():
            try:
                self.kind.check(options)
            except InvalidOptionError as error:
                demand(str(error), f"check({options}) refuses without a word")
            except EVERYTHING as error:
                what = f"check({options}) raised {type(error).__name__}: {error}"
                raise ContractBrokenError(f"{what}; wanted InvalidOptionError") from error

    # ------------------------------------------------------------------------ what it does

    def test_something_is_left_and_is_what_stood_there_before(self) -> None:
        """It may lower, raise and drop; it never leaves nothing, and makes up no tokens."""
        for options, what, candidates in self._trials():
            before = _ids(candidates)
            self._run(options).apply(candidates, what)
            self._demand_sound(candidates, before, what)

    def test_infinitely_likely_tokens_are_survived(self) -> None:
        """A sampler before it may have made some."""
        for options in self._used_options():
            row = np.zeros(len(self.tokenizer.pieces), np.float32)
            row[[3, 70]] = np.inf
            for shape, candidates in shapes(row):
                what = f"{shape} of a row with inf, with {options}"
                self._run(options).apply(candidates, what)
                demand(len(candidates), f"apply on {what} left no candidate")

    def test_a_wide_row_is_as_good_as_any(self) -> None:
        """Vocabularies have up to some 260,000 tokens."""
        wide = type("Wide", (type(self),), {"tokenizer": _wide_tokenizer()})()
        row = np.random.default_rng(1).normal(0, 3, len(wide.tokenizer.pieces)).astype(np.float32)
        for options in list(self._used_options())[:3]:
            candidates = Candidates(row.copy())
            before = _ids(candidates)
            what = f"a row of {len(row)}, with {options}"
            wide._run(options).apply(candidates, what)  # noqa: SLF001 - this class's own
            self._demand_sound(candidates, before, what)

    def test_nothing_but_its_candidates_changes(self) -> None:
        """Not the job's tokens, not a companion's row, not the array of ids that it was given."""
        for options, what, candidates in self._trials():
            run = self._run(options)
            history = run.view.token_ids.tolist()
            ids = candidates.ids
            kept = None if ids is None else ids.copy()
            run.apply(candidates, what)
            demand(run.view.token_ids.tolist() == history, f"apply on {what} changed the history")
            demand(
                ids is None or kept is None or np.array_equal(ids, kept),
                f"apply on {what} wrote into the ids; use candidates.keep()",
            )

    def test_keeps_order_is_true_to_its_word(self) -> None:
        """Who comes after it relies on it."""
        for options, what, candidates in self._trials():
            run = self._run(options)
            if not run.sampler.keeps_order:
                continue
            candidates.sort()
            before = _ids(candidates)
            run.apply(candidates, what)
            falling = candidates.logits[:-1] >= candidates.logits[1:]
            demand(falling.all(), f"keeps_order, yet on {what} the likeliest is not first")
            places = {token: place for place, token in enumerate(before)}
            after = [places[token] for token in _ids(candidates)]
            demand(after == sorted(after), f"keeps_order, yet on {what} tokens changed places")

    def test_keeps_best_is_true_to_its_word(self) -> None:
        """At temperature 0 the end of a chain that says so is left out."""
        for options, what, candidates in self._trials():
            run = self._run(options)
            if not run.sampler.keeps_best:
                continue
            best = _best(candidates)
            run.apply(candidates, what)
            demand(
                _best(candidates) == best, f"keeps_best, yet on {what} another token is likeliest"
            )

    def test_equal_seeds_and_positions_give_equal_answers(self) -> None:
        """Then a request with a `seed` can be repeated, on any machine."""
        for options in self._used_options():
            first, second = (self._answer(options, self._prompts()[-1]) for _ in range(2))
            _demand_equal(first, second, f"two jobs of equal seed, with {options}")

    def test_asked_twice_for_one_position_it_answers_the_same(self) -> None:
        """A constraint that refuses the first draw has the row sampled again."""
        for options in self._used_options():
            once = self._answer(options, self._prompts()[-1])
            twice = self._answer(options, self._prompts()[-1], applications=2)
            _demand_equal(once, twice, f"apply a second time without accept, with {options}")

    def test_jobs_know_nothing_of_each_other(self) -> None:
        """What one sampler accepted is nothing to the next job's."""
        for options in self._used_options():
            alone = self._answer(options, self._prompts()[-1])
            other = self._run(options, [1, 2, 3])
            beside = self._answer(options, self._prompts()[-1], meanwhile=other.accept)
            _demand_equal(alone, beside, f"a job beside another, with {options}")

    def test_it_takes_any_token(self) -> None:
        """Control tokens too, forced ones too, with no `apply` before them."""
        for options in self._used_options():
            run = self._run(options)
            for token_id in range(len(self.tokenizer.pieces)):
                run.accept(token_id)
            what = f"a row after every token was accepted, with {options}"
            run.apply(Candidates(np.zeros(len(self.tokenizer.pieces), np.float32)), what)

    # -------------------------------------------------------------------- how it is tried

    def _all_options(self) -> list[SamplerOptions]:
        for values in self.cases:
            unknown = set(values) - set(fields_of(self.kind.options))
            demand(not unknown, f"cases name unknown fields: {', '.join(sorted(unknown))}")
        return list(option_values(self.kind.options, self.cases))

    def _used_options(self) -> Iterator[SamplerOptions]:
        """Options that a request may have, and that change something; the others never start."""
        for options in self._all_options():
            try:
                self.kind.check(options)
            except InvalidOptionError:
                continue
            if self.kind.enabled(options):
                yield options

    def _prompts(self) -> list[list[int]]:
        return [[], [*b"the cat and the dog and the ", -1, -1, 256, *b"the cat"]]

    def _run(self, options: Any, prompt: Sequence[int] | None = None) -> Run:
        return Run(self, options, self._prompts()[-1] if prompt is None else prompt)

    def _trials(self) -> Iterator[tuple[SamplerOptions, str, Candidates]]:
        width = len(self.tokenizer.pieces)
        for options in self._used_options():
            for name, row in rows(width):
                for shape, candidates in shapes(row):
                    yield options, f"{shape} of the row {name!r}, with {options}", candidates

    def _answer(
        self,
        options: Any,
        prompt: Sequence[int],
        *,
        applications: int = 1,
        meanwhile: Callable[[int], None] | None = None,
    ) -> list[Snapshot]:
        """Sample a few tokens, the best of each row; give what the sampler made of each."""
        run = self._run(options, prompt)
        made: list[Snapshot] = []
        for name, row in list(rows(len(self.tokenizer.pieces)))[:_STEPS]:
            for _ in range(applications):
                candidates = Candidates(row.copy())
                run.apply(candidates, f"the row {name!r}, with {options}")
            made.append((_ids(candidates), candidates.logits.copy()))
            token_id = _best(candidates)
            run.accept(token_id)
            if meanwhile is not None:
                meanwhile(token_id)
        return made

    def _demand_sound(self, candidates: Candidates, before: list[int], what: str) -> None:
        after, logits = _ids(candidates), candidates.logits
        demand(len(logits), f"apply on {what} left no candidate")
        demand(logits.dtype == np.float32, f"apply on {what} left logits of {logits.dtype}")
        demand(
            candidates.ids is None or candidates.ids.dtype == np.int32,
            f"apply on {what} left ids that are no int32",
        )
        demand(
            len(after) == len(logits),
            f"apply on {what} left {len(after)} ids, {len(logits)} logits",
        )
        demand(len(set(after)) == len(after), f"apply on {what} left a token twice")
        demand(set(after) <= set(before), f"apply on {what} made up tokens")
        demand(not np.isnan(logits).any(), f"apply on {what} made NaN")
        demand(logits.max() > -np.inf, f"apply on {what} left no token that has a chance")


@cache
def _wide_tokenizer() -> Tokenizer:
    return PieceTokenizer(f" {number:06}" for number in range(_WIDE))


def _made(options: type[SamplerOptions], plain: Any) -> SamplerOptions:
    return msgspec.convert(plain, options, str_keys=True)


def _ids(candidates: Candidates) -> list[int]:
    if candidates.ids is None:
        return list(range(len(candidates)))
    return [int(token) for token in candidates.ids]


def _best(candidates: Candidates) -> int:
    top = candidates.logits.max()
    return min(
        t for t, logit in zip(_ids(candidates), candidates.logits, strict=True) if logit == top
    )


def _demand_equal(first: Sequence[Snapshot], second: Sequence[Snapshot], what: str) -> None:
    for (ids, logits), (other_ids, other_logits) in zip(first, second, strict=True):
        same = ids == other_ids and np.array_equal(logits, other_logits)
        demand(same, f"{what}: the candidates differ")
