"""One job's choice of tokens: constraint, chain, draw."""

import math
from array import array
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Constraint, Sampler
from corral_kernel.errors import EngineError
from corral_kernel.sampling.chain import Link, greedy_chain
from corral_kernel.sampling.draw import (
    FIRST_DRAW,
    MASKED_DRAW,
    PLACES,
    draw,
    draw_of,
    has_chance,
    likeliest,
)
from corral_kernel.sampling.failures import ANYTHING, sampler_failed
from corral_kernel.sampling.filters import TopK
from corral_kernel.sampling.held import HeldConstraint
from corral_kernel.sampling.history import HistoryView

Row = NDArray[np.float32]


Shortlist = Callable[[], Sequence[tuple[int, float]]]
"""An engine's own choice for one row: see `TokenEngine.shortlist`."""


class Chooser:
    """Chooses a job's tokens, one row after the other, where numpy ignores what overflows.

    The chosen token is to be appended to the view before the next row: random numbers go by the
    view's position, penalties by its tokens.

    Args:
        samplers: The job's chain, in order; a `Link` also tells name and companions.
        view: The job's, kept by the caller.
        constraint: What the answer may look like, at its beginning.
        greedy: Whether the best token is taken in the end, in place of a draw.
        vocab_size: Width of the rows.
        piece_count: Tokens that the tokenizer knows; ids from there on are never chosen.
        end_ids: Ids that end an answer.

    Attributes:
        held: What the answer is held to just now.
    """

    def __init__(  # noqa: PLR0913 - one for each thing that a choice depends on
        self,
        samplers: Sequence[Sampler | Link],
        view: HistoryView,
        constraint: Constraint | None = None,
        *,
        greedy: bool = False,
        vocab_size: int,
        piece_count: int,
        end_ids: Sequence[int] = (),
    ) -> None:
        self._vocab_size = vocab_size
        self._width = min(vocab_size, piece_count)
        self._view = view
        links = [link if isinstance(link, Link) else Link(link) for link in samplers]
        chain = [link.sampler for link in links]
        self._samplers = greedy_chain(chain) if greedy else chain
        self._links = links[: len(self._samplers)]
        self._before_native: Sequence[Sampler] = ()
        self._after_native: Sequence[Sampler] = self._samplers
        self._listening = [s for s in self._samplers if type(s).accept is not Sampler.accept]
        self._greedy = greedy
        self._end_ids = [end_id for end_id in end_ids if 0 <= end_id < self._width]
        # A chain that begins by keeping fewer works on a copy; others may change the row itself.
        first = self._samplers[0] if self._samplers else None
        cuts = isinstance(first, TopK) and first.k < self._width
        self._spoils_row = bool(self._samplers) and not cuts
        self._again = 0
        self.held: HeldConstraint | None = None
        self._plainly_greedy = self._greedy and not self._samplers
        self.hold(constraint)

    def hold(self, constraint: Constraint | None, name: str = "") -> None:
        """Hold what comes next to a constraint, at its beginning, or to none."""
        self.held = None
        if constraint is not None:
            self.held = HeldConstraint(
                constraint,
                name,
                vocab_size=self._vocab_size,
                piece_count=self._width,
                end_ids=self._end_ids,
            )

    def leave_to_engine(self, count: int, start: int = 0) -> None:
        """Have the engine apply `count` samplers from `start` on: see `TokenEngine.shortlist`."""
        self._before_native = self._samplers[:start]
        self._after_native = self._samplers[start + count :]

    def choose(
        self, row: Row, companions: Sequence[Row] = (), shortlist: Shortlist | None = None
    ) -> int:
        """Choose the next token; constraint and samplers are told of it.

        Args:
            row: Logits `(vocab_size,)`; will be changed. NaN counts as impossible.
            companions: The rows of the samplers' companions, in the order of the chain.
            shortlist: Gives what the engine's own samplers leave of the row, where it has some.

        Raises:
            EngineError: For a row with no finite greatest logit, a constraint that allows nothing
                or contradicts itself, or samplers that leave nothing.
            SamplerFailedError: If a sampler fails.
            ConstraintFailedError: If the constraint fails.
        """
        token_id = self.draw(row, companions, shortlist)
        if self._samplers:
            self.tell(token_id)
        return token_id

    def draw(
        self,
        row: Row,
        companions: Sequence[Row] = (),
        shortlist: Shortlist | None = None,
        again: int = 0,
    ) -> int:
        """Choose as `choose` does, but tell the constraint alone: `tell` the samplers.

        Args:
            row: As for `choose`.
            companions: As for `choose`.
            shortlist: As for `choose`.
            again: How many tokens were drawn at this position before, and not taken.
        """
        self._again = PLACES * again
        if self._plainly_greedy and self.held is None:
            token_id = int(row[: self._width].argmax())
            if len(row) == self._vocab_size and math.isfinite(row[token_id]):
                return token_id
        drawn = None
        if shortlist is not None and not self._greedy:
            if self._before_native and self.held is None:
                return self._drawn_behind(self._usable(row), shortlist)
            if not self._before_native and not (self.held and self.held.masks_first):
                drawn = self._drawn_natively(shortlist())
                if drawn is not None and self.held is None:
                    return drawn
        row = self._usable(row)
        if self.held is None:
            return self._drawn(Candidates(row), FIRST_DRAW, companions)
        return self._drawn_under(self.held, row, companions, drawn)

    def tell(self, token_id: int) -> None:
        """Tell the samplers of a token that joins the answer."""
        for sampler in self._listening:
            try:
                sampler.accept(token_id)
            except ANYTHING as error:
                raise self._failure(sampler, error) from error

    def accept(self, token_id: int) -> None:
        """Tell constraint and samplers of a token that was forced.

        Raises:
            EngineError: If the constraint refuses it.
        """
        if self.held is not None and not self.held.accept(token_id):
            raise EngineError(f"the constraint refuses token {token_id}, which was forced")
        self.tell(token_id)

    def forced(self) -> list[int]:
        """Tokens that must come next, each still to be accepted."""
        return [] if self.held is None else self.held.forced()

    def allows(self, token_ids: Sequence[int]) -> int:
        """How many of these drafts the constraint would accept in turn; nothing changes."""
        return len(token_ids) if self.held is None else self.held.allows(token_ids)

    def finished(self) -> bool:
        """Whether the constraint lets nothing follow."""
        return self.held is not None and self.held.finished()

    def _usable(self, row: Row) -> Row:
        if row.shape != (self._vocab_size,):
            raise EngineError(f"a row of logits of shape {row.shape}, not ({self._vocab_size},)")
        row = row[: self._width]
        if not math.isfinite(row.max()):  # NaN, if there is one
            row[np.isnan(row)] = -np.inf
            if not math.isfinite(row.max()):
                raise EngineError(
                    "the engine's logits are unusable: "
                    + ("one is infinite" if row.max() > 0 else "all are NaN or -inf")
                )
        return row

    def _drawn_natively(self, left: Sequence[tuple[int, float]]) -> int | None:
        """Draw from what the engine leaves; None: it leaves that to us."""
        if not left:
            return None
        number = self._view.random_at(FIRST_DRAW)
        if not self._after_native:
            return draw_of(left, number)
        ids, logits = zip(*left, strict=True)
        candidates = Candidates(
            np.frombuffer(array("f", logits), np.float32),
            np.frombuffer(array("i", ids), np.int32),
            ordered=True,
        )
        self._apply(candidates, self._after_native)
        return draw(candidates, number)

    def _drawn_behind(self, row: Row, shortlist: Shortlist) -> int:
        """Draw from what the engine leaves of a row that the samplers before it wrote to."""
        candidates = Candidates(row)
        self._apply(candidates, self._before_native)
        # What is no logit of a model any more, or no whole row, only our own samplers understand.
        as_it_was = candidates.logits is row and candidates.ids is None
        if as_it_was and math.isfinite(row.max()):
            drawn = self._drawn_natively(shortlist())
            if drawn is not None:
                return drawn
        self._apply(candidates, self._samplers[len(self._before_native) :])
        return self._taken(candidates, FIRST_DRAW)

    def _drawn_under(
        self,
        held: HeldConstraint,
        row: Row,
        companions: Sequence[Row],
        drawn: int | None = None,
    ) -> int:
        """Draw what the constraint takes; `drawn` came of the row without it."""
        if not held.masks_first:
            token_id = drawn
            if token_id is None:
                free = Candidates(row.copy() if self._spoils_row else row)
                token_id = self._drawn(free, FIRST_DRAW, companions)
            accepted = held.accept(token_id)
            held.drawn(accepted=accepted)
            if accepted:
                return token_id
        token_id = self._drawn(held.masked(row), MASKED_DRAW, companions)
        if not held.accept(token_id):
            raise EngineError(f"the constraint refuses token {token_id}, which its mask allows")
        return token_id

    def _drawn(self, candidates: Candidates, place: int, companions: Sequence[Row]) -> int:
        if companions:
            self._apply_beside(candidates, companions)
        else:
            self._apply(candidates, self._samplers)
        return self._taken(candidates, place)

    def _taken(self, candidates: Candidates, place: int) -> int:
        """The end of a chain."""
        if self._greedy:
            token_id = likeliest(candidates) if has_chance(candidates) else None
        else:
            token_id = draw(candidates, self._view.random_at(place - self._again))
        if token_id is None:
            raise EngineError(
                "constraint and samplers leave no token that the model gives a chance"
            )
        return token_id

    def _apply(self, candidates: Candidates, samplers: Sequence[Sampler]) -> None:
        for sampler in samplers:
            try:
                sampler.apply(candidates)
            except ANYTHING as error:
                raise self._failure(sampler, error) from error
            if not sampler.keeps_order:
                candidates.ordered = False

    def _apply_beside(self, candidates: Candidates, companions: Sequence[Row]) -> None:
        """Apply each sampler beside the rows of its own companions."""
        rows = [row[: self._width] for row in companions]
        for row in rows:
            row.flags.writeable = False
        start = 0
        for link in self._links:
            candidates.companion_logits = rows[start : start + link.companions]
            start += link.companions
            try:
                link.sampler.apply(candidates)
            except ANYTHING as error:
                raise self._failure(link.sampler, error) from error
            if not link.sampler.keeps_order:
                candidates.ordered = False

    def _failure(self, failing: Sampler, error: BaseException) -> Exception:
        name = next(link.name for link in self._links if link.sampler is failing)
        return sampler_failed(name, error)
