"""Samplers that keep fewer candidates, and temperature."""

import math

import numpy as np

from corral_kernel.contracts import Candidates, Sampler
from corral_kernel.sampling.draw import weights
from corral_kernel.sampling.shortlist import largest, leading, reach


class TopK(Sampler):
    """Keep the `k` likeliest tokens; of equal ones at the border the lower ids.

    Args:
        k: At least 1.

    Source: Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation", arXiv:1805.04833.
    """

    keeps_order = True
    keeps_best = True

    def __init__(self, k: int) -> None:
        self.k = k

    def apply(self, candidates: Candidates) -> None:
        """Keep them, ordered."""
        if self.k >= len(candidates):
            return
        if candidates.ordered:
            candidates.head(self.k)
        else:
            candidates.keep(largest(candidates.logits, self.k), ordered=True)


class TypicalP(Sampler):
    """Keep the tokens whose surprise is nearest to the expected one, together over a mass of `p`.

    Args:
        p: Below 1. At 0 or less only the most typical token is kept.
        min_keep: Candidates that are left at least.

    Source: Meister et al., "Locally Typical Sampling", arXiv:2202.00666.
    """

    keeps_order = True

    def __init__(self, p: float, min_keep: int = 0) -> None:
        self._p = p
        self._min_keep = min_keep

    def apply(self, candidates: Candidates) -> None:
        """Keep them, in the order in which they stood."""
        chances = weights(candidates)
        chances /= chances.sum()
        lowest = np.finfo(
            np.float32
        ).min  # in place of log 0: times 0 it is 0, and far from typical
        surprise = -np.log(chances, out=np.full_like(chances, lowest), where=chances > 0)
        distance = np.abs(surprise - (chances * surprise).sum())
        kept = leading(-distance, chances, self._p, beyond=True)
        if len(kept) < self._min_keep:
            kept = largest(-distance, self._min_keep)
        candidates.keep(np.sort(kept), ordered=candidates.ordered)


class TopP(Sampler):
    """Keep the likeliest tokens that together reach a mass of `p`; at least one.

    Args:
        p: Below 1. At 0 or less only the likeliest token is kept.
        min_keep: Candidates that are left at least.

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
    """

    keeps_order = True
    keeps_best = True

    def __init__(self, p: float, min_keep: int = 0) -> None:
        self._p = p
        self._min_keep = min_keep

    def apply(self, candidates: Candidates) -> None:
        """Keep them, ordered."""
        chances = weights(candidates)
        if candidates.ordered:
            sums = chances.cumsum(dtype=np.float64)
            count = reach(sums, self._p * float(sums[-1])) + 1
            candidates.head(max(count, self._min_keep))
        else:
            mass = self._p * float(chances.sum(dtype=np.float64))
            kept = leading(candidates.logits, chances, mass)
            if len(kept) < self._min_keep:
                kept = largest(candidates.logits, self._min_keep)
            candidates.keep(kept, ordered=True)


class MinP(Sampler):
    """Drop tokens less than `p` times as likely as the likeliest one, which always stays.

    Args:
        p: Over 0. At 1 the likeliest token and its equals are kept.
        min_keep: Candidates that are left at least, the likeliest.

    Source: Nguyen et al., "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082.
    """

    keeps_order = True
    keeps_best = True

    def __init__(self, p: float, min_keep: int = 0) -> None:
        self._margin = np.float32(min(math.log(p), 0.0))
        self._min_keep = min_keep

    def apply(self, candidates: Candidates) -> None:
        """Keep the others, in the order in which they stood."""
        logits = candidates.logits
        top = logits[0] if candidates.ordered else logits.max()
        kept = logits >= top + self._margin
        if candidates.ordered:
            candidates.head(max(int(np.count_nonzero(kept)), self._min_keep))
        elif self._min_keep > 1 and np.count_nonzero(kept) < self._min_keep:
            candidates.keep(largest(logits, self._min_keep), ordered=True)
        else:
            candidates.keep(kept)


class Temperature(Sampler):
    """Divide the logits, over 1 for more even chances, under 1 for more certain ones.

    They are first moved so that the greatest is 0, which changes no probability: dividing by a
    tiny temperature then overflows to `-inf`, never to several tokens of `inf`.

    Args:
        temperature: Over 0.

    Source: Ackley, Hinton, Sejnowski, "A Learning Algorithm for Boltzmann Machines", 1985.
    """

    keeps_order = True
    keeps_best = True

    def __init__(self, temperature: float) -> None:
        self._temperature = max(np.float32(temperature), np.finfo(np.float32).tiny)

    def apply(self, candidates: Candidates) -> None:
        """Divide in place."""
        logits = candidates.logits
        top = logits[0] if candidates.ordered else logits.max()
        if np.isfinite(top):
            logits -= top
            logits /= self._temperature
