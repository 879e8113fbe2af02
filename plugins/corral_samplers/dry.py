"""DRY: a penalty on going on with a sequence that was there before."""

import math

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, JobView, Sampler
from corral_samplers.breakers import Breakers
from corral_samplers.finding import find
from corral_samplers.repeats import Repeats

HIGHEST = math.log(float(np.finfo(np.float32).max))


class Dry(Sampler):
    """Lower the logits of tokens that would make a repeated sequence longer.

    A token that would follow a repetition of `n` tokens, `allowed` or more, loses
    `multiplier * base ** (n - allowed)`. Prompt and answer count, media do not.

    Args:
        job: The job, of which the last positions count.
        multiplier: Over 0.
        base: At least 1.
        allowed: 0 or more.
        last: How many positions, over 0.
        breakers: What no sequence goes across; tokens that are one by themselves lose nothing.

    Source: Weidmann, "DRY: A modern repetition penalty that reliably prevents looping",
        oobabooga/text-generation-webui#5677, 2024.
    """

    def __init__(  # noqa: PLR0913 - one for each field
        self,
        job: JobView,
        *,
        multiplier: float,
        base: float,
        allowed: int,
        last: int,
        breakers: Breakers,
    ) -> None:
        self._job = job
        self._multiplier = multiplier
        self._base = base
        self._allowed = allowed
        self._last = last
        self._breakers = breakers
        self._repeats = Repeats(last)
        self._repeats.follow(job.token_ids)  # a long prompt takes longest, and this is no step yet

    def apply(self, candidates: Candidates) -> None:
        """Lower them in place; no finite logit becomes infinite."""
        token_ids, lengths = self._repeated()
        index, which = find(candidates, token_ids)
        if not len(index):
            return
        lowest = float(np.finfo(np.float32).min)
        before = candidates.logits[index].astype(np.float64)
        after = np.maximum(before - self._penalties(lengths[which]), lowest)
        candidates.logits[index] = np.where(np.isneginf(before), before, after)

    def _repeated(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Tokens that would go on with a repetition, rising, and the length of the longest."""
        everything = self._job.token_ids
        runs = self._repeats.follow(everything)
        window = everything[-self._last :]
        # At distance d the window holds no more than its length less d.
        distances = (runs[1:] >= self._allowed).nonzero()[0] + 1
        lengths = np.minimum(runs[distances], len(window) - distances)
        if len(lengths):
            limit = self._breakers.tokens_since(window, int(lengths.max()))
            lengths = np.minimum(lengths, limit)
        nexts = window[len(window) - distances]
        counted = (lengths >= self._allowed) & (nexts >= 0) & ~self._breakers.whole(nexts)
        return _longest(nexts[counted], lengths[counted])

    def _penalties(self, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        exponents = (lengths - self._allowed).astype(np.float64)
        steepness = math.log(self._base)
        if steepness > 0:
            exponents = np.minimum(exponents, HIGHEST // steepness)
        penalties: NDArray[np.float64] = self._multiplier * self._base**exponents
        return penalties


def _longest(
    token_ids: NDArray[np.int32], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Each token once, rising, with the greatest of its lengths."""
    order = np.lexsort((lengths, token_ids))
    token_ids, lengths = token_ids[order], lengths[order]
    last = np.ones(len(token_ids), bool)
    last[:-1] = token_ids[1:] != token_ids[:-1]
    return token_ids[last], lengths[last]
