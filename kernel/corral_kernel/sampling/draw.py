"""Numbers that depend on seed and position alone, and the draw that ends every chain."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates
from corral_kernel.sampling.shortlist import leading, reach

FIRST_DRAW = -1
"""Place of the draw that ends a chain; places from 0 up are the samplers' own."""
MASKED_DRAW = -2
"""Place of the draw under a mask, so that it owes nothing to a first draw that was refused."""
PLACES = 2
"""How many places one choice has: who chooses again at a position takes the next ones."""

FEW = 64
"""Up to so many candidates Python's own floats are faster than arrays."""

_WORD = 0xFFFF_FFFF_FFFF_FFFF
_GOLDEN = 0x9E37_79B9_7F4A_7C15


def random(seed: int, position: int, place: int = 0) -> float:
    """Hash a seed, a position and a place in the chain into a number.

    Three rounds of the splitmix64 finalizer, one for each argument, modulo 2^64; the upper 53 bits
    are the number. No state: drafts, batches and retries change nothing, and it is the same on
    every platform.

    Args:
        seed: Any integer, taken modulo 2^64.
        position: Of the token to be drawn: how many came before it.
        place: Whose number it is: samplers count from 0, the kernel's draws are negative.

    Returns:
        In [0, 1), a multiple of 2^-53.

    Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014;
        constants of the finalizer by David Stafford (Mix13).
    """
    state = 0
    for word in (seed, position, place):
        state = _mix(((state ^ (word & _WORD)) + _GOLDEN) & _WORD)
    return (state >> 11) * 2.0**-53


def draw(candidates: Candidates, number: float) -> int | None:
    """Draw a token: inverse of the cumulated softmax, likeliest first.

    Args:
        candidates: No NaN among their logits.
        number: In [0, 1).

    Returns:
        A token id, never one of probability zero; None: none has a chance.
    """
    if len(candidates) <= FEW:
        return _drawn_of_few(candidates, number)
    if not has_chance(candidates):
        return None
    chances = weights(candidates)
    if candidates.ordered:
        sums = chances.cumsum(dtype=np.float64)
        index = reach(sums, number * float(sums[-1]), beyond=True)
    else:
        mass = number * float(chances.sum(dtype=np.float64))
        index = int(leading(candidates.logits, chances, mass, beyond=True)[-1])
    return _token(candidates, index)


def draw_of(left: Sequence[tuple[int, float]], number: float) -> int:
    """Draw as `draw` does, from ids and logits, likeliest first.

    Args:
        left: At least one, the first logit finite.
        number: In [0, 1).
    """
    return left[_drawn([logit for _, logit in left], number)][0]


def has_chance(candidates: Candidates) -> bool:
    """Whether any of them has a logit over `-inf`, and none NaN."""
    logits = candidates.logits
    return bool(len(logits) and (logits[0] if candidates.ordered else logits.max()) > -np.inf)


def _drawn_of_few(candidates: Candidates, number: float) -> int | None:
    logits = candidates.logits.tolist()
    ids = range(len(logits)) if candidates.ids is None else candidates.ids.tolist()
    pairs: list[tuple[float, int]] = [
        (-logit, token_id) for logit, token_id in zip(logits, ids, strict=True)
    ]
    if not candidates.ordered:
        if any(logit != logit for logit in logits):  # noqa: PLR0124 - NaN is what differs
            return None
        pairs.sort()
    if not pairs or not pairs[0][0] < math.inf:
        return None
    return pairs[_drawn([-logit for logit, _ in pairs], number)][1]


def _drawn(logits: Sequence[float], number: float) -> int:
    """Where a number falls among the chances of falling logits."""
    top = logits[0]
    if math.isinf(top):  # certain ones share everything
        return min(int(number * (certain := logits.count(top))), certain - 1)
    total = 0.0
    sums = [total := total + math.exp(logit - top) for logit in logits]
    mass = number * total
    # The mass of a number next to 1 may round to all of it.
    return next((place for place, sum_ in enumerate(sums) if sum_ > mass), sums.index(total))


def likeliest(candidates: Candidates) -> int:
    """Find the token with the greatest logit, of equal ones the lowest id."""
    logits, ids = candidates.logits, candidates.ids
    index = 0 if candidates.ordered else int(logits.argmax())
    if candidates.ordered or ids is None:
        return _token(candidates, index)
    return int(ids[logits == logits[index]].min())


def weights(candidates: Candidates) -> NDArray[np.float32]:
    """Probabilities but for a factor: 1 for the likeliest, `(n,)`.

    Infinite logits are certain: they share everything. If all are `-inf`, they are equal.
    """
    logits = candidates.logits
    top = logits[0] if candidates.ordered else logits.max()
    if not np.isfinite(top):
        certain: NDArray[np.bool_] = logits == top
        return certain.astype(np.float32)
    chances: NDArray[np.float32] = logits - top
    np.exp(chances, out=chances)
    return chances


def _token(candidates: Candidates, index: int) -> int:
    return index if candidates.ids is None else int(candidates.ids[index])


def _mix(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58_476D_1CE4_E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D0_49BB_1331_11EB) & _WORD
    return word ^ (word >> 31)
