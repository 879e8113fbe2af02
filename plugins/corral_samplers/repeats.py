"""How long the end of a text has been a repetition of what stands at each distance before it."""

import numpy as np
from numpy.typing import NDArray

MEDIA = -1


class Repeats:
    """Lengths of repetitions, kept up to date token by token.

    Args:
        last: Positions that are looked at, from the end; over 0.
    """

    def __init__(self, last: int) -> None:
        self._last = last
        self._length = 0
        self._seen = np.zeros(0, np.int32)
        self._runs = np.zeros(0, np.int32)

    def follow(self, token_ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Look at all positions so far; media are -1 and repeat nothing.

        Takes time in proportion to `last` for each token that was added since, and more where
        positions were forgotten.

        Args:
            token_ids: Shape `(n,)`.

        Returns:
            `runs`, shape `(min(n, last),)`, to be read only: for each distance `d` from 1 on, how
            many tokens at the end are equal to as many that end `d` positions before. They may
            begin before what is looked at.
        """
        window = token_ids[-self._last :]
        before = token_ids[: self._length][-self._last :]
        if self._length and np.array_equal(before, self._seen):
            for end in range(self._length, len(token_ids)):
                self._add(token_ids, end)
        else:
            self._runs = common_ends(window)
        self._length = len(token_ids)
        self._seen = window.copy()
        return self._runs

    def _add(self, token_ids: NDArray[np.int32], end: int) -> None:
        count = min(end + 1, self._last)
        if count > len(self._runs):
            self._runs = np.concatenate((self._runs, np.zeros(1, np.int32)))
        token = token_ids[end]
        earlier = token_ids[end - count + 1 : end][::-1]
        runs = self._runs[1:]
        runs += 1
        runs *= (earlier == token) & (token != MEDIA)


def common_ends(token_ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """For each distance from the end, how many tokens end equally there and at the end.

    The Z-function of the text read backwards, in linear time.

    Args:
        token_ids: Shape `(n,)`; media are -1 and equal to nothing.

    Returns:
        Shape `(n,)`; at distance 0 it is 0.
    """
    # Each medium becomes an id of its own.
    ids = [token if token != MEDIA else -2 - i for i, token in enumerate(token_ids[::-1].tolist())]
    count = len(ids)
    runs = [0] * count
    start = stop = 0  # the known repetition that reaches furthest
    for distance in range(1, count):
        run = min(runs[distance - start], stop - distance) if distance < stop else 0
        while distance + run < count and ids[run] == ids[distance + run]:
            run += 1
        runs[distance] = run
        if distance + run > stop:
            start, stop = distance, distance + run
    return np.array(runs, np.int32)
