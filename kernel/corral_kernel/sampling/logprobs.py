"""What the model itself thought of a token: log-probabilities of the raw row."""

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Tokenizer
from corral_kernel.frames import TokenLogprob
from corral_kernel.sampling.shortlist import largest

_IMPOSSIBLE = -9999.0  # in place of -inf, which JSON cannot say


class RawProbs:
    """A row as the engine gave it, to be asked after a token was chosen.

    Args:
        row: Logits `(vocab_size,)`, copied: choosing changes the row.
        piece_count: Tokens that the tokenizer knows; the rest of the row is padding.
    """

    def __init__(self, row: NDArray[np.float32], piece_count: int) -> None:
        self._row = row[:piece_count].copy()
        if np.isnan(self._row.max()):
            self._row[np.isnan(self._row)] = -np.inf

    def of(self, token_id: int, top: int, tokenizer: Tokenizer) -> TokenLogprob:
        """Report a token's log-probability and those of the likeliest.

        Args:
            token_id: The chosen one.
            top: How many of the likeliest, 0 for none; tokens of no chance are left out.
            tokenizer: For texts and bytes.
        """
        row = self._row
        best = largest(row, top) if top > 0 else ()
        return TokenLogprob(
            *_text(token_id, tokenizer),
            max(float(row[token_id]) - self._total, _IMPOSSIBLE),
            tuple(
                TokenLogprob(*_text(int(other), tokenizer), float(row[other]) - self._total)
                for other in best
            ),
        )

    @cached_property
    def _total(self) -> float:
        """The logarithm of the sum of exponentials; costs as much as the rest of a choice."""
        greatest = self._row.max()
        return float(greatest) + math.log(np.exp(self._row - greatest).sum(dtype=np.float64))


def forced_logprob(token_id: int, tokenizer: Tokenizer) -> TokenLogprob:
    """Report a token that nothing else could have taken the place of: probability 1."""
    return TokenLogprob(*_text(token_id, tokenizer), 0.0)


def _text(token_id: int, tokenizer: Tokenizer) -> tuple[str, bytes]:
    piece = tokenizer.pieces[token_id]
    return piece.decode(errors="replace"), piece
