"""Top-n-sigma, and XTC: samplers that drop candidates at one end or the other."""

import numpy as np

from corral_kernel.contracts import Candidates, JobView, Sampler
from corral_kernel.sampling.draw import weights


class TopNSigma(Sampler):
    """Drop tokens whose logit is more than `n` standard deviations below the greatest.

    Impossible tokens do not count for the deviation.

    Args:
        n: Over 0.

    Source: Tang et al., "Top-nsigma: Not All Logits Are You Need", arXiv:2411.07641.
    """

    keeps_order = True
    keeps_best = True

    def __init__(self, n: float) -> None:
        self._n = n

    def apply(self, candidates: Candidates) -> None:
        """Keep the others, in the order in which they stood."""
        logits = candidates.logits
        possible = logits
        if np.isneginf(logits[-1] if candidates.ordered else logits.min()):
            possible = logits[logits > -np.inf]
        distances = possible - possible.mean(dtype=np.float64).astype(np.float32)
        deviation = np.sqrt(np.dot(distances, distances) / len(distances))
        top = logits[0] if candidates.ordered else logits.max()
        # Where logits are so far apart that this is no number, nothing is less than it.
        kept = ~(logits < top - self._n * deviation)
        if candidates.ordered:
            candidates.head(int(np.count_nonzero(kept)))
        else:
            candidates.keep(kept)


class Xtc(Sampler):
    """With some probability remove every token over a threshold but the least likely of them.

    What is left are then tokens that are good enough, without the obvious ones. Of equally likely
    ones the highest id stays.

    Args:
        job: For its random numbers.
        probability: In (0, 1], of doing anything at a position.
        threshold: In [0, 0.5], the chance that a token must have to count as obvious.
        min_keep: Candidates that must be left for anything to be done.

    Source: Weidmann, "Exclude Top Choices (XTC)", oobabooga/text-generation-webui#6335, 2024.
    """

    keeps_order = True

    def __init__(self, job: JobView, probability: float, threshold: float, min_keep: int) -> None:
        self._job = job
        self._probability = probability
        self._threshold = threshold
        self._min_keep = min_keep

    def apply(self, candidates: Candidates) -> None:
        """Remove them; the rest stays in the order in which it stood."""
        if len(candidates) < 2 or self._job.random() >= self._probability:  # noqa: PLR2004 - one has no rival
            return
        chances = weights(candidates)
        bound = self._threshold * float(chances.sum(dtype=np.float64))
        likely = ((chances >= bound) & (chances > 0)).nonzero()[0]
        drops = len(likely) - 1
        if drops < 1 or len(candidates) - drops < self._min_keep:
            return
        if candidates.ordered:
            candidates.keep(np.arange(drops, len(candidates)), ordered=True)
            return
        found = candidates.logits[likely]
        least = likely[found == found.min()]
        kept = least[-1] if candidates.ids is None else least[candidates.ids[least].argmax()]
        candidates.logits[likely[likely != kept]] = -np.inf
