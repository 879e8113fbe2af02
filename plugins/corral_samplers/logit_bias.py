"""The sampler that adds to the logits of tokens that a request names."""

from collections.abc import Mapping

import numpy as np

from corral_kernel.contracts import Candidates, Sampler
from corral_samplers.finding import find


class LogitBias(Sampler):
    """Add to logits.

    Args:
        biases: What to add, by token id; `-inf`: never. No NaN, no `+inf`.
    """

    def __init__(self, biases: Mapping[int, float]) -> None:
        self._ids = np.array(sorted(biases), np.int32)
        self._biases = np.array([biases[token_id] for token_id in sorted(biases)], np.float64)

    def apply(self, candidates: Candidates) -> None:
        """Add them in place; no finite bias makes a logit infinite."""
        index, which = find(candidates, self._ids)
        biases = self._biases[which]
        before = candidates.logits[index]
        limit = float(np.finfo(np.float32).max)
        after = np.clip(before + biases, -limit, limit)
        never = np.isneginf(before) | np.isneginf(biases)
        candidates.logits[index] = np.where(never, -np.inf, after)
