"""Adaptive-p: tokens near a target probability, by what was chosen so far."""

import numpy as np

from corral_kernel.contracts import Candidates, Sampler
from corral_kernel.sampling.draw import weights
from corral_samplers.chances import Chances

PEAK = 5.0
"""Logit of a token that is at the target."""
SHARPNESS = 10.0
"""How steeply logits fall away from it."""
WIDTH = 0.3
"""Distance from the target that counts as one."""


class AdaptiveP(Sampler):
    """Give candidates new logits, the higher the nearer their probability is to a target.

    The target moves against the mean of what was chosen (of the probabilities as they were before),
    so that the mean stays where it should. What was forced was not chosen and moves nothing.

    Args:
        target: Mean probability to keep to, in [0, 1].
        decay: How slowly the mean forgets, in [0, 0.99]; it is that of some `1 / (1 - decay)`
            tokens.

    Source: MrJackSpade and ddh0, "Adaptive-P", ggml-org/llama.cpp#17927, 2025.
    """

    def __init__(self, target: float, decay: float) -> None:
        self._target = target
        self._decay = decay
        self._sum = target / (1 - decay)
        self._weight = 1 / (1 - decay)
        self._last: Chances | None = None

    @property
    def aim(self) -> float:
        """Where the target is now, in [0, 1]."""
        return min(1.0, max(0.0, 2 * self._target - self._sum / self._weight))

    def apply(self, candidates: Candidates) -> None:
        """Replace the logits in place; what is impossible stays so."""
        parts = weights(candidates)
        self._last = Chances(parts, candidates.ids)
        logits = candidates.logits
        possible = logits > -np.inf
        away = parts * np.float32(1 / (float(parts.sum(dtype=np.float64)) * WIDTH))
        away -= np.float32(self.aim / WIDTH)
        np.abs(away, out=away)
        fall = away * np.float32(SHARPNESS)
        fall *= away
        away += 1
        fall /= away
        np.subtract(np.float32(PEAK), fall, out=logits, where=possible)

    def accept(self, token_id: int) -> None:
        """Take the token into the mean, if it comes from the candidates of the last `apply`."""
        last, self._last = self._last, None
        chance = last.of(token_id) if last is not None else 0.0
        if chance > 0:
            self._sum = chance + self._decay * self._sum
            self._weight = 1 + self._decay * self._weight
