"""The sampler of one job. Runs in a worker."""

from __future__ import annotations

import numpy as np
from corral_kernel.contracts import Candidates, JobView, Sampler


class LeanSampler(Sampler):
    """Add to the logits of tokens that begin a word.

    Args:
        amount: What is added; negative for less of them.
        job: Whose tokenizer says what a token is; it also knows the tokens so far.
    """

    def __init__(self, amount: float, job: JobView) -> None:
        begins = [piece.startswith(b" ") for piece in job.tokenizer.pieces]
        self._added = np.array(begins, np.float32) * np.float32(amount)

    def apply(self, candidates: Candidates) -> None:
        """Add in place; some tokens may have been dropped before."""
        ids = candidates.ids
        if ids is None:  # still the whole row
            candidates.logits += self._added[: len(candidates)]
        else:
            candidates.logits += self._added[ids]
