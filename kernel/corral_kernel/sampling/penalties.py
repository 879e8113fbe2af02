"""The sampler that makes what was said less likely to be said again."""

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, JobView, Sampler


class Penalties(Sampler):
    """Lower the logits of tokens among the last of prompt and answer.

    A positive logit is divided by `repeat`, another one multiplied; then `presence` is taken off
    once and `frequency` for each time that the token was seen.

    Args:
        view: The job's, of which the last positions count; media do not.
        last: How many positions, over 0.
        repeat: Over 0; 1 changes nothing.
        presence: Any finite number.
        frequency: Any finite number.

    Source: Keskar et al., "CTRL", arXiv:1909.05858 (repeat), in the form that also lowers negative
        logits; presence and frequency as in OpenAI's API.
    """

    def __init__(
        self, view: JobView, *, last: int, repeat: float, presence: float, frequency: float
    ) -> None:
        self._view = view
        self._last = last
        self._repeat = repeat
        self._presence = presence
        self._frequency = frequency

    def apply(self, candidates: Candidates) -> None:
        """Lower them in place."""
        window = self._view.token_ids[-self._last :]
        seen, counts = np.unique(window[window >= 0], return_counts=True)
        index, counts = _find(candidates, seen, counts)
        if not len(index):
            return
        # In double precision, so that no penalty makes an infinity that was none; and a logit of
        # -inf stays what it is.
        logits = candidates.logits[index].astype(np.float64)
        logits = np.where(logits > 0, logits / self._repeat, logits * self._repeat)
        logits -= self._presence + counts * self._frequency
        candidates.logits[index] = np.minimum(logits, np.finfo(np.float32).max)


def _find(
    candidates: Candidates, seen: NDArray[np.int32], counts: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the rising ids stand among the candidates, and their counts."""
    if candidates.ids is None:
        known = int(seen.searchsorted(len(candidates)))
        return seen[:known].astype(np.intp), counts[:known]
    if not len(seen):
        return np.zeros(0, np.intp), counts
    nearest = np.minimum(seen.searchsorted(candidates.ids), len(seen) - 1)
    index = np.flatnonzero(seen[nearest] == candidates.ids)
    return index, counts[nearest[index]]
