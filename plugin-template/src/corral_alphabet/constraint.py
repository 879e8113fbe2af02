"""The constraint of one job. Runs in a worker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from corral_kernel.contracts import Constraint, Tokenizer
from numpy.typing import NDArray


class AlphabetConstraint(Constraint):
    """Between one character and `length` of them, all among some given ones.

    Args:
        characters: ASCII, so that each is a byte.
        length: How many an answer may have.
        tokenizer: The model's.
        vocab_size: Width of a row of logits; ids that the tokenizer does not know are not allowed.
    """

    def __init__(
        self, characters: bytes, length: int, tokenizer: Tokenizer, vocab_size: int
    ) -> None:
        wanted = frozenset(characters)
        # How many characters each token writes; 0: none, or others.
        self._written = np.zeros(-(-vocab_size // 32) * 32, np.int32)
        for token_id, piece in enumerate(tokenizer.pieces):
            if token_id not in tokenizer.control_ids and wanted.issuperset(piece):
                self._written[token_id] = len(piece)
        self._written[sorted(tokenizer.end_ids)] = 0
        self._end_ids = tokenizer.end_ids
        self._left = length
        self._begun = False
        self._ended = False

    def mask(self, out: NDArray[np.uint32]) -> bool:
        """Set the bits of the tokens that may come next."""
        fits = (self._written > 0) & (self._written <= self._left)
        if self._ended:
            fits[:] = False
        elif self._begun:
            fits[sorted(self._end_ids)] = True
        out[:] = np.packbits(fits, bitorder="little").view("<u4")
        return True

    def accept(self, token_id: int) -> bool:
        """Take a token; False: it is not allowed, and nothing has changed."""
        if self._ended:
            return False
        if token_id in self._end_ids:
            self._ended = self._begun
            return self._ended
        written = int(self._written[token_id])
        if not 0 < written <= self._left:
            return False
        self._left -= written
        self._begun = True
        return True

    def allows(self, token_ids: Sequence[int]) -> int:
        """How many of these would be accepted in turn; nothing changes."""
        left, begun = self._left, self._begun
        for count, token_id in enumerate(token_ids):
            if token_id in self._end_ids:
                return count + int(begun and not self._ended)
            written = int(self._written[token_id])
            if self._ended or not 0 < written <= left:
                return count
            left -= written
            begun = True
        return len(token_ids)

    def finished(self) -> bool:
        """Whether nothing may follow but the end."""
        return self._ended or not self._left
