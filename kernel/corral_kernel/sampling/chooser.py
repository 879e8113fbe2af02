"""One job's choice of tokens: constraint, chain, draw."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Constraint, JobView
from corral_kernel.errors import EngineError
from corral_kernel.options import RequestOptions
from corral_kernel.sampling.chain import standard_chain
from corral_kernel.sampling.draw import FIRST_DRAW, MASKED_DRAW, draw, likeliest
from corral_kernel.sampling.filters import TopK
from corral_kernel.sampling.masks import Mask

# A refusal costs a chain and a mask, a mask first about as much as the chain: it pays once more
# than one draw in three is refused. A refusal adds 2, an acceptance takes 1, at 6 it is settled.
_REFUSAL = 2
_MASK_FIRST = 6


class Chooser:
    """Chooses a job's tokens, one row after the other.

    The chosen token is to be appended to the view before the next row: random numbers go by the
    view's position, penalties by its tokens.

    Args:
        options: The request's; `seed` is the view's affair.
        view: The job's, kept by the caller.
        constraint: What the answer may look like, at its beginning.
        vocab_size: Width of the rows.
        piece_count: Tokens that the tokenizer knows; ids from there on are never chosen.
        end_ids: Ids that end an answer. The constraint is asked about the first, and the answer
            holds for all.

    Raises:
        InvalidOptionError: For options that no chain can be made of.
    """

    def __init__(  # noqa: PLR0913 - one for each thing that a choice depends on
        self,
        options: RequestOptions,
        view: JobView,
        constraint: Constraint | None,
        *,
        vocab_size: int,
        piece_count: int,
        end_ids: Sequence[int] = (),
    ) -> None:
        self._vocab_size = vocab_size
        self._width = min(vocab_size, piece_count)
        self._view = view
        self._samplers = standard_chain(options, view)
        self._greedy = options.temperature <= 0
        self._constraint = constraint
        self._end_ids = [end_id for end_id in end_ids if 0 <= end_id < self._width]
        self._mask = Mask(vocab_size, self._width, self._end_ids)
        self._refusals = 0
        self._plainly_greedy = self._greedy and not self._samplers and constraint is None
        # A chain that begins by keeping fewer works on a copy; others may change the row itself.
        cuts = options.top_k < self._width and isinstance(next(iter(self._samplers), None), TopK)
        self._spoils_row = bool(self._samplers) and not cuts

    def choose(self, row: NDArray[np.float32]) -> int:
        """Choose the next token; constraint and samplers are told of it.

        Args:
            row: Logits `(vocab_size,)`; will be changed. NaN counts as impossible.

        Raises:
            EngineError: For a row with no finite greatest logit, a constraint that allows nothing
                or contradicts itself, or samplers that leave nothing.
        """
        if self._plainly_greedy:
            token_id = int(row[: self._width].argmax())
            if len(row) == self._vocab_size and math.isfinite(row[token_id]):
                return token_id
        row = self._usable(row)
        with np.errstate(all="ignore"):
            if self._constraint is None:
                token_id = self._drawn(Candidates(row), FIRST_DRAW)
            else:
                token_id = self._drawn_under(self._constraint, row)
        self._tell_samplers(token_id)
        return token_id

    def accept(self, token_id: int) -> None:
        """Tell constraint and samplers of a token that was forced.

        Raises:
            EngineError: If the constraint refuses it.
        """
        constraint = self._constraint
        if constraint is not None and not constraint.accept(self._asked(token_id)):
            raise EngineError(f"the constraint refuses token {token_id}, which was forced")
        self._tell_samplers(token_id)

    def forced(self) -> list[int]:
        """Tokens that must come next, each still to be accepted."""
        return [] if self._constraint is None else list(self._constraint.forced())

    def allows(self, token_ids: Sequence[int]) -> int:
        """How many of these drafts the constraint would accept in turn; nothing changes."""
        if self._constraint is None:
            return len(token_ids)
        return self._constraint.allows([self._asked(token_id) for token_id in token_ids])

    def finished(self) -> bool:
        """Whether the constraint lets nothing follow."""
        return self._constraint is not None and self._constraint.finished()

    def _usable(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
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

    def _drawn_under(self, constraint: Constraint, row: NDArray[np.float32]) -> int:
        if self._refusals < _MASK_FIRST:
            free = Candidates(row.copy() if self._spoils_row else row)
            token_id = self._drawn(free, FIRST_DRAW)
            if constraint.accept(self._asked(token_id)):
                self._refusals = max(0, self._refusals - 1)
                return token_id
            self._refusals += _REFUSAL
        token_id = self._drawn(self._mask.apply(constraint, row), MASKED_DRAW)
        if not constraint.accept(self._asked(token_id)):
            raise EngineError(f"the constraint refuses token {token_id}, which its mask allows")
        return token_id

    def _drawn(self, candidates: Candidates, place: int) -> int:
        for sampler in self._samplers:
            sampler.apply(candidates)
            if not sampler.keeps_order:
                candidates.ordered = False
        logits = candidates.logits
        if not len(logits) or not (logits[0] if candidates.ordered else logits.max()) > -np.inf:
            raise EngineError(
                "constraint and samplers leave no token that the model gives a chance"
            )
        if self._greedy:
            return likeliest(candidates)
        return draw(candidates, self._view.random(place))

    def _asked(self, token_id: int) -> int:
        """The id to ask the constraint about: of all that end an answer it knows the first."""
        return self._end_ids[0] if token_id in self._end_ids else token_id

    def _tell_samplers(self, token_id: int) -> None:
        for sampler in self._samplers:
            sampler.accept(token_id)
