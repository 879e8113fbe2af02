"""Mirostat: truncation that keeps the surprise of a text near a target."""

import math

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Sampler
from corral_kernel.sampling.draw import weights
from corral_kernel.sampling.shortlist import largest
from corral_samplers.chances import Chances

LEADING = 100
"""Tokens that Mirostat 1 estimates the distribution's steepness by."""


_MOST = float(np.finfo(np.float32).max)


class Feedback(Sampler):
    """What both versions share: a bound on surprise, moved by that of what was chosen.

    The surprise of a token is measured among the candidates that were left. What was forced was not
    chosen and moves nothing.

    Args:
        tau: Target, in bits.
        eta: Share of the error by which the bound moves.
    """

    keeps_order = True
    keeps_best = True

    def __init__(self, tau: float, eta: float) -> None:
        self.mu = 2 * tau
        self._tau = tau
        self._eta = eta
        self._last: Chances | None = None

    def apply(self, candidates: Candidates) -> None:
        """Keep what the bound allows, at least the likeliest."""
        self._truncate(candidates)
        self._last = Chances(weights(candidates), candidates.ids)

    def accept(self, token_id: int) -> None:
        """Move the bound, if the token comes from the candidates of the last `apply`."""
        last, self._last = self._last, None
        chance = last.of(token_id) if last is not None else 0.0
        if chance > 0:
            self.mu -= self._eta * (-math.log2(chance) - self._tau)

    def _truncate(self, candidates: Candidates) -> None:
        """Drop what is beyond the bound."""
        raise NotImplementedError


class MirostatV2(Feedback):
    """Mirostat 2.0: drop what is more surprising than the bound.

    Source: Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
        Perplexity", arXiv:2007.14966; version 2.0 by its authors, github.com/basusourya/mirostat.
    """

    def _truncate(self, candidates: Candidates) -> None:
        logits = candidates.logits
        top = float(logits[0] if candidates.ordered else logits.max())
        total = float(weights(candidates).sum(dtype=np.float64))
        bound = top + math.log(total) - self.mu * math.log(2)
        kept = logits >= np.float32(min(max(bound, -_MOST), _MOST))
        count = int(np.count_nonzero(kept))
        if candidates.ordered:
            candidates.head(max(1, count))
        elif count:
            candidates.keep(kept)
        else:
            candidates.keep(largest(logits, 1), ordered=True)


class Mirostat(Feedback):
    """Mirostat: estimate Zipf's exponent from the likeliest tokens, and from it how many to keep.

    Args:
        tau: Target, in bits.
        eta: Share of the error by which the bound moves.
        vocab_size: Tokens of the model.

    Source: Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
        Perplexity", arXiv:2007.14966.
    """

    def __init__(self, tau: float, eta: float, *, vocab_size: int) -> None:
        super().__init__(tau, eta)
        self._log_size = math.log(max(2, vocab_size))

    def _truncate(self, candidates: Candidates) -> None:
        logits = candidates.logits
        index = np.arange(min(LEADING, len(logits)))
        if not candidates.ordered:
            index = largest(logits, LEADING)
        found = logits[index]
        count = self._count(found[found > -np.inf], len(logits))
        if count >= len(logits):
            return
        if candidates.ordered:
            candidates.head(count)
        else:
            best = index[:count] if count <= len(index) else largest(logits, count)
            candidates.keep(best, ordered=True)

    def _count(self, leading: NDArray[np.float32], most: int) -> int:
        """How many to keep of `most`.

        Args:
            leading: The greatest logits, falling, all possible.
            most: Candidates that there are.
        """
        if len(leading) < 2:  # noqa: PLR2004 - no steepness in one
            return 1
        falls = -np.diff(leading.astype(np.float64))
        ranks = np.log1p(1 / np.arange(1, len(leading)))
        exponent = float(np.dot(ranks, falls) / np.dot(ranks, ranks))
        beyond = (exponent - 1) * self._log_size
        # ε / (1 - n^-ε), which is 1 / ln n where ε is 0.
        ratio = (1 - exponent) / math.expm1(-beyond) if beyond else 1 / self._log_size
        # From here on in logarithms, so that nothing overflows.
        wanted = math.log(ratio) + self.mu * math.log(2)
        if wanted >= exponent * math.log(most):
            return most
        return max(1, int(math.exp(wanted / exponent))) if exponent > 0 else 1
