"""Who holds which cells of a context: what every kind of memory has in common.

A cell holds the keys and values of one position, and may belong to several sequences. Jobs run on
lanes: a lane is one sequence of the library, with the ids that it was fed or will be. What a lane
held may stay cached after it is closed; a later lane of the same scope that begins alike starts
from there.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Key = int
"""What one position holds, for comparing: a token id."""
State = NDArray[np.uint8]
"""A copy of a sequence's cells, as the library gives and takes it."""


class Cells(Protocol):
    """The library's operations on sequences; `stop` -1 is the end."""

    def remove(self, sequence: int, start: int, stop: int) -> bool:
        """Take positions from a sequence; False: this memory cannot, and nothing has changed."""

    def share(self, source: int, target: int, start: int, stop: int) -> None:
        """Let a sequence hold positions of another too."""

    def move(self, sequence: int, start: int, stop: int, by: int) -> None:
        """Move positions, for every sequence that holds them."""

    def first(self, sequence: int) -> int:
        """The first position that is still there whole; -1: none."""

    def size(self, sequence: int) -> int:
        """Bytes of a copy of a sequence."""

    def save(self, sequence: int) -> State:
        """Copy a sequence out."""

    def restore(self, sequence: int, state: State) -> bool:
        """Give an empty sequence what was copied out; False: it could not be, and holds nothing."""


@dataclass(slots=True, eq=False)
class Lane:
    """One running sequence.

    Attributes:
        sequence: The library's id of it.
        scope: Prefixes are shared only between lanes of equal scope.
        keys: What each position holds or will hold; grows while the job runs.
        total: Positions that are reserved for it.
        fed: Positions that it holds.
        pure: Positions from the start whose values are those of a fresh computation.
    """

    sequence: int
    scope: Hashable
    keys: list[Key]
    total: int
    fed: int = 0
    pure: int | None = None

    @property
    def future(self) -> int:
        """Cells that it may still come to need."""
        return max(0, self.total - self.fed)


class Memory(Protocol):
    """The lanes and cached sequences of one context.

    Attributes:
        shares: Lanes that begin alike can share what one of them is fed.
        checkpoints: It is of use to `checkpoint` a lane before the last token of its prompt.
    """

    shares: bool
    checkpoints: bool

    def open(self, scope: Hashable, keys: list[Key], total: int) -> Lane | None:
        """Make a lane that keeps its room; None: there is none just now.

        `fed` of the new lane is what it found cached, always less than `len(keys)`.
        """

    def join(self, lane: Lane) -> None:
        """Let a lane have what others were fed of its beginning since it was opened."""

    def make_room(self, count: int) -> None:
        """Evict so that open lanes can be fed `count` positions."""

    def advance(self, lane: Lane, count: int) -> None:
        """A lane was fed."""

    def checkpoint(self, lane: Lane) -> None:
        """Keep what a lane holds now, if it could not be had from what it will hold."""

    def trim(self, lane: Lane, length: int) -> None:
        """Take all positions from `length` on from a lane."""

    def cut(self, lane: Lane, start: int, stop: int) -> bool:
        """Take positions from the middle of a lane, and move the rest down."""

    def close(self, lane: Lane) -> None:
        """End a lane; what it holds may stay cached."""

    def drop_cached(self) -> None:
        """Evict all that no lane holds."""


def common_length(one: Sequence[Key], other: Sequence[Key], start: int = 0) -> int:
    """Length of the common beginning of two sequences, known to be alike up to `start`."""
    limit = min(len(one), len(other))
    block = 256  # slices are compared at C's speed
    while start + block <= limit and one[start : start + block] == other[start : start + block]:
        start += block
    while start < limit and one[start] == other[start]:
        start += 1
    return start
