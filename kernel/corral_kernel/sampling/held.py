"""A constraint as a chooser asks it."""

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Constraint
from corral_kernel.sampling.failures import ANYTHING, constraint_failed
from corral_kernel.sampling.masks import Mask

# A refusal costs a chain and a mask, a mask first about as much as the chain: it pays once more
# than one draw in three is refused. A refusal adds 2, an acceptance takes 1, at 6 it is settled.
_REFUSAL = 2
_MASK_FIRST = 6

WORTH_A_THREAD_NS = 200_000
"""A mask that takes longer is made while the engine computes; to hand it over costs some 50 µs."""


class Pending(Protocol):
    """A mask that is being made on another thread."""

    def cancel(self) -> bool:
        """Whether it was not begun and will not be."""

    def result(self) -> bool:
        """Wait for it; raises what it raised."""


class HeldConstraint:
    """What an answer is held to, at one place of it. Failures bear its name.

    Args:
        constraint: At its beginning.
        name: Of its type.
        vocab_size: Width of the rows.
        piece_count: Tokens that the tokenizer knows.
        end_ids: Ids that end an answer. The constraint is asked about the first, and the answer
            holds for all.
    """

    def __init__(
        self,
        constraint: Constraint,
        name: str,
        *,
        vocab_size: int,
        piece_count: int,
        end_ids: Sequence[int],
    ) -> None:
        self._constraint = constraint
        self._name = name
        self._end_ids = end_ids
        self._mask = Mask(vocab_size, piece_count, end_ids)
        self._refusals = 0
        self._mask_ns = 0  # what the last mask took
        self._ahead: Pending | None = None

    def accept(self, token_id: int) -> bool:
        """Take a token; False: it is not allowed, and nothing has changed."""
        try:
            return self._constraint.accept(self._asked(token_id))
        except ANYTHING as error:
            raise constraint_failed(self._name, error) from error

    def forced(self) -> list[int]:
        """Tokens that must come next, each still to be accepted."""
        try:
            return list(self._constraint.forced())
        except ANYTHING as error:
            raise constraint_failed(self._name, error) from error

    def allows(self, token_ids: Sequence[int]) -> int:
        """How many of these would be accepted in turn; nothing changes."""
        try:
            return self._constraint.allows([self._asked(token_id) for token_id in token_ids])
        except ANYTHING as error:
            raise constraint_failed(self._name, error) from error

    def finished(self) -> bool:
        """Whether nothing may follow but the end."""
        try:
            return self._constraint.finished()
        except ANYTHING as error:
            raise constraint_failed(self._name, error) from error

    # --------------------------------------------------------------------------- its mask

    @property
    def masks_first(self) -> bool:
        """Whether draws are refused so often that a mask comes before the first one."""
        return self._refusals >= _MASK_FIRST

    def drawn(self, *, accepted: bool) -> None:
        """Hear what became of a draw without a mask."""
        self._refusals = max(0, self._refusals - 1) if accepted else self._refusals + _REFUSAL

    def masked(self, row: NDArray[np.float32]) -> Candidates:
        """Leave of a row `(piece_count,)` only what may come next.

        Raises:
            EngineError: If nothing may.
            ConstraintFailedError: If the constraint fails.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead.cancel():
            limited = self._read()
        else:
            try:
                limited = ahead.result()
            except ANYTHING as error:  # who waits for it may be interrupted first
                raise constraint_failed(self._name, error) from error
        return self._mask.lay(row) if limited else Candidates(row)

    @property
    def is_slow(self) -> bool:
        """Whether the next mask is sure to be asked for, and worth another thread."""
        return self._mask_ns > WORTH_A_THREAD_NS and self._refusals >= _MASK_FIRST

    def make_ahead(self, submit: Callable[[Callable[[], bool]], Pending]) -> None:
        """Have the next mask made on another thread; nothing else is asked before it is used."""
        self._ahead = submit(self._read)

    def _read(self) -> bool:
        began_ns = perf_counter_ns()
        try:
            limited = self._mask.read(self._constraint)
        except ANYTHING as error:
            raise constraint_failed(self._name, error) from error
        self._mask_ns = perf_counter_ns() - began_ns
        return limited

    def _asked(self, token_id: int) -> int:
        return self._end_ids[0] if token_id in self._end_ids else token_id
