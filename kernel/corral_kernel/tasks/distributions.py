"""Next-token distributions, kept small, and how far another one is from them. In a worker.

A kept distribution holds the log-probabilities of the likeliest tokens, until all but a millionth
of the mass is told, and what is left as one. The divergence over that partition is never over the
true one, and less by what the rest hides, which is next to nothing; it is 0 for equal rows.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corral_kernel.errors import EngineError

MOST_TOKENS = 4096
REST = 1e-6
"""Of a distribution so many tokens are kept at most, fewer where this much is left over."""

_LEAST_LOG = -100.0
_LEAST_REST = 1e-12  # below it, the rest is what adding up makes of rounding
_HEAD = struct.Struct("<Id")


@dataclass(frozen=True, slots=True)
class Kept:
    """One distribution.

    Attributes:
        token_ids: Of the likeliest tokens `(n,)`.
        logprobs: Theirs `(n,)`, float32.
        rest: Probability of all others together.
    """

    token_ids: NDArray[np.uint32]
    logprobs: NDArray[np.float32]
    rest: float

    def to_bytes(self) -> bytes:
        """Write it down."""
        head = _HEAD.pack(len(self.token_ids), self.rest)
        return head + self.token_ids.astype("<u4").tobytes() + self.logprobs.astype("<f4").tobytes()


def log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise a row `(n,)`; it stays as it is.

    Raises:
        EngineError: If it holds NaN, or nothing finite.
    """
    wide = logits.astype(np.float64)
    top = wide.max(initial=-np.inf)
    if not np.isfinite(top):
        raise EngineError(f"the model gave logits whose largest is {top}: no distribution at all")
    wide -= top
    wide -= np.log(np.exp(wide).sum())
    return np.maximum(wide, _LEAST_LOG).astype(np.float32)


def keep(logprobs: NDArray[np.float32]) -> Kept:
    """Keep the likeliest tokens of a normalised row `(n,)`."""
    count = min(MOST_TOKENS, len(logprobs))
    top = np.argpartition(-logprobs, count - 1)[:count]
    top = top[np.lexsort((top, -logprobs[top]))]
    mass = np.cumsum(np.exp(logprobs[top].astype(np.float64)))
    enough = int(np.searchsorted(mass, mass[-1] - REST)) + 1
    ids = top[:enough].astype(np.uint32)
    return Kept(ids, logprobs[ids], _rest(logprobs, ids))


def divergence(kept: Kept, logprobs: NDArray[np.float32]) -> float:
    """Kullback-Leibler divergence of a normalised row from a kept distribution, in nats, ≥ 0."""
    wide = kept.logprobs.astype(np.float64)
    there = logprobs[kept.token_ids].astype(np.float64)
    rest = max(kept.rest, _LEAST_REST)
    beside = max(_rest(logprobs, kept.token_ids), _LEAST_REST)
    total = float(np.dot(np.exp(wide), wide - there)) + rest * float(np.log(rest / beside))
    return max(0.0, total)


def pack(rows: Sequence[Kept]) -> bytes:
    """Write rows down, one after the other."""
    return b"".join(row.to_bytes() for row in rows)


def unpack(data: bytes) -> list[Kept]:
    """Read what `pack` wrote."""
    rows: list[Kept] = []
    at = 0
    while at < len(data):
        count, rest = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        ids = np.frombuffer(data, "<u4", count, at).astype(np.uint32)
        at += ids.nbytes
        logprobs = np.frombuffer(data, "<f4", count, at).astype(np.float32)
        at += logprobs.nbytes
        rows.append(Kept(ids, logprobs, rest))
    return rows


def _rest(logprobs: NDArray[np.float32], token_ids: NDArray[np.uint32]) -> float:
    probabilities = np.exp(logprobs.astype(np.float64))
    return max(0.0, float(probabilities.sum() - probabilities[token_ids].sum()))
