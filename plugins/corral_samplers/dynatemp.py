"""A temperature that follows the model's uncertainty."""

import math

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Sampler
from corral_kernel.sampling.filters import Temperature


class Dynatemp(Sampler):
    """Divide the logits by a temperature between `temperature - range` and `temperature + range`.

    Where in between is the entropy of the candidates, as a share of the greatest that so many could
    have, to a power.

    Args:
        temperature: Over 0.
        spread: How far it goes up and down, over 0; down to 0 at most.
        exponent: 0 or more; 1 for in proportion.

    Source: kalomaze, "Dynamic Temperature", LostRuins/koboldcpp#464, 2023. A relative: Zhang et
        al., "EDT: Entropy-based Dynamic Temperature Sampling", arXiv:2403.14541.
    """

    keeps_order = True
    keeps_best = True

    def __init__(self, temperature: float, spread: float, *, exponent: float) -> None:
        self._lowest = max(0.0, temperature - spread)
        self._highest = temperature + spread
        self._exponent = exponent

    def apply(self, candidates: Candidates) -> None:
        """Divide in place."""
        logits = candidates.logits
        top = logits[0] if candidates.ordered else logits.max()
        if len(logits) > 1 and math.isfinite(top):
            Temperature(self._temperature(logits - top)).apply(candidates)

    def _temperature(self, below: NDArray[np.float32]) -> float:
        """The one for these logits, of which the greatest is 0."""
        possible = int(np.count_nonzero(below > -np.inf))
        chances = np.exp(below)
        total = float(chances.sum(dtype=np.float64))
        # So far down a chance is 0, and 0 times -inf would be no number.
        np.maximum(below, np.float32(-1e4), out=below)
        entropy = math.log(total) - float(np.dot(chances, below)) / total
        share = min(1.0, max(0.0, entropy / math.log(possible))) if possible > 1 else 0.0
        return self._lowest + (self._highest - self._lowest) * math.pow(share, self._exponent)
