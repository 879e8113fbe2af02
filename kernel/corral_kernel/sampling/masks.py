"""A constraint's mask, laid on a row."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Constraint
from corral_kernel.errors import EngineError

_SPARSE = 16  # a mask with fewer than one busy byte in this many is read token by token

_BIT = np.uint8(1) << np.arange(8, dtype=np.uint8)
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_LOGITS = np.where(_BITS == 1, np.float32(0), np.float32(-np.inf))
"""What a byte of a mask adds to the logits of its eight tokens, `(256, 8)`."""


class Mask:
    """Room for a constraint's mask, and the ways to lay it on a row.

    Args:
        vocab_size: Width of the rows.
        piece_count: Tokens that the tokenizer knows; the rest of a row is padding.
        end_ids: Ids that end an answer; a constraint knows of the first.
    """

    def __init__(self, vocab_size: int, piece_count: int, end_ids: Sequence[int]) -> None:
        self._words = np.zeros(-(-vocab_size // 32), np.uint32)
        self._piece_count = piece_count
        self._end_ids = end_ids

    def read(self, constraint: Constraint) -> bool:
        """Ask for the mask of the next token, on any thread; False: every token is allowed."""
        return constraint.mask(self._words)

    def lay(self, row: NDArray[np.float32]) -> Candidates:
        """Leave only what the mask that was read last allows.

        Args:
            row: `(piece_count,)`, no NaN; may be changed.

        Raises:
            EngineError: If nothing is allowed.
        """
        octets = self._words.astype("<u4", copy=False).view(np.uint8)
        self._copy_end(octets)
        busy = octets.nonzero()[0]
        if len(busy) * _SPARSE < len(octets):
            ids = self._allowed(octets, busy)
            if not len(ids):
                raise EngineError(
                    "the constraint allows no token here: its grammar has a dead end, or needs"
                    " bytes that no token of this model begins with"
                )
            return Candidates(row[ids], ids)
        row += _LOGITS.take(octets, axis=0).reshape(-1)[: self._piece_count]
        return Candidates(row)

    def _copy_end(self, octets: NDArray[np.uint8]) -> None:
        if not self._end_ids:
            return
        first, *others = self._end_ids
        allowed = octets[first >> 3] & _BIT[first & 7]
        for end_id in others:
            bit = _BIT[end_id & 7]
            if allowed:
                octets[end_id >> 3] |= bit
            else:
                octets[end_id >> 3] &= ~bit

    def _allowed(self, octets: NDArray[np.uint8], busy: NDArray[np.intp]) -> NDArray[np.int32]:
        which, bit = _BITS[octets[busy]].nonzero()
        ids = (busy[which] * 8 + bit).astype(np.int32)
        return ids[: ids.searchsorted(self._piece_count)]
