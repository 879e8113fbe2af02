"""The likeliest of many, exactly, without sorting them all."""

import numpy as np
from numpy.typing import NDArray

# Rows of the grid that a long array is folded into: the fewer columns there are, the quicker their
# bound is found, and the more values stand in those that reach it.
_MOST_ROWS = 64
_FEWEST_ROWS = 8
_COLUMNS_PER_VALUE = 4
_SHORT = 1024  # up to here numpy's stable sort of floats beats sorting packed integers
_FIRST_TRIES = (256, 4096)  # how many of the greatest to look at before sorting everything


def largest(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Find the greatest values, equal ones by position.

    The values are folded into a grid. The `count`-th greatest of the columns' maxima is no greater
    than the `count`-th greatest value, so only columns that reach it need a look: a maximum along
    the long axis runs at memory speed, where `argpartition` takes ten times as long.

    Args:
        values: Shape `(n,)`, at least one, no NaN; not modified.
        count: How many, at least 1.

    Returns:
        Positions, greatest value first. Fewer than `count` where there are no more, or where the
        rest are all `-inf`; never none.
    """
    rows = min(_MOST_ROWS, len(values) // (_COLUMNS_PER_VALUE * count))
    positions = _reaching(values, count, rows) if rows >= _FEWEST_ROWS else None
    if positions is None:
        positions = (values > -np.inf).nonzero()[0]
    return _first(values, positions, count) if len(positions) else np.zeros(1, np.intp)


def leading(
    keys: NDArray[np.float32],
    weights: NDArray[np.float32],
    mass: float,
    *,
    beyond: bool = False,
) -> NDArray[np.intp]:
    """Find the fewest positions, greatest key first, whose weights together reach a mass.

    Args:
        keys: What orders them, shape `(n,)`, no NaN.
        weights: Not negative, shape `(n,)`.
        mass: What is to be reached. Positions whose weights add nothing to the total are left out
            where all the others together do not reach it.
        beyond: Whether the mass must be passed, not just reached.

    Returns:
        At least one position, greatest key first.
    """
    for count in (*_FIRST_TRIES, len(keys)):
        positions = largest(keys, count)
        sums = weights[positions].cumsum(dtype=np.float64)
        if len(positions) < count or count >= len(keys) or _reached(sums, mass, beyond=beyond):
            break
    return positions[: reach(sums, mass, beyond=beyond) + 1]


def reach(sums: NDArray[np.float64], mass: float, *, beyond: bool = False) -> int:
    """Find the first of rising sums that reaches (or passes) a mass, or the whole total."""
    index = int(sums.searchsorted(mass, side="right" if beyond else "left"))
    return index if index < len(sums) else int(sums.searchsorted(sums[-1]))


def _reached(sums: NDArray[np.float64], mass: float, *, beyond: bool) -> bool:
    return bool(sums[-1] > mass if beyond else sums[-1] >= mass)


def _reaching(values: NDArray[np.float32], count: int, rows: int) -> NDArray[np.intp] | None:
    """Rising positions, those of the `count` greatest among them; None: bounded by `-inf`."""
    columns = len(values) // rows
    grid = values[: columns * rows].reshape(rows, columns)
    maxima = grid.max(axis=0)
    bound = np.partition(maxima, columns - count)[columns - count]
    if bound == -np.inf:
        return None
    chosen = (maxima >= bound).nonzero()[0]
    # Flat, since in one dimension `nonzero` has a faster way.
    found = (grid.take(chosen, axis=1) >= bound).ravel().nonzero()[0]
    row, column = np.divmod(found, len(chosen))
    positions: NDArray[np.intp] = row * columns + chosen[column]
    rest = (values[columns * rows :] >= bound).nonzero()[0]
    return np.concatenate((positions, rest + columns * rows)) if len(rest) else positions


def _first(
    values: NDArray[np.float32], positions: NDArray[np.intp], count: int
) -> NDArray[np.intp]:
    """Of rising positions, those of the `count` greatest values, in order."""
    if len(positions) > 2 * count:  # more than sorting is cheap for: find the last one wanted
        found = values[positions]
        bound = np.partition(found, len(found) - count)[len(found) - count]
        positions = positions[found >= bound]
    return _in_order(values, positions)[:count]


def _in_order(values: NDArray[np.float32], positions: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rising positions by falling value, equal ones as they stand."""
    found = values[positions]
    if len(found) <= _SHORT:
        order: NDArray[np.intp] = (-found).argsort(kind="stable")
        return positions[order]
    # A float's bits order like an integer once those of negative ones are turned over. Packed with
    # the place in one integer each, equal values need no stable sort. (+ 0.0: no negative zeros.)
    bits = (found + np.float32(0.0)).view(np.int32)
    rank = ~(bits ^ ((bits >> 31) & 0x7FFFFFFF))
    packed = (rank.astype(np.int64) << 32) | np.arange(len(found))
    packed.sort()
    order = packed & 0xFFFFFFFF
    return positions[order]
