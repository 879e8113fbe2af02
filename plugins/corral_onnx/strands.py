"""Which sequences there are: those of running jobs, and finished ones that are kept.

GenAI allocates a sequence's keys and values when it is made, for all the positions that it
may ever have, and clears them: a tenth of a second for 4,096 positions of a small model. So a kept
sequence is of use twice: by the beginning that it shares with a new prompt, and by its memory.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from corral_kernel.errors import EngineError, OutOfMemoryError


class Strand(Protocol):
    """One sequence.

    Attributes:
        capacity: Positions that it can have.
        length: Positions that are fed.
    """

    capacity: int
    length: int

    def feed(self, token_ids: Sequence[int]) -> None:
        """Append tokens, which were checked.

        Raises:
            EngineError: With the library's own reason; the sequence is of no more use.
        """

    def row(self) -> NDArray[np.float32]:
        """Logits after what was fed last, shape `(1, vocab_size)`; a new array.

        To be asked once after `feed` and never after `rewind`.

        Raises:
            EngineError: With the library's own reason.
        """

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on.

        Raises:
            EngineError: If this model cannot go back.
        """

    def close(self) -> None:
        """Free it."""


class Scope(NamedTuple):
    """Beginnings are shared only between lanes of equal scope."""

    cache: str  # the jobs'
    adapter: str  # empty: none


@dataclass(slots=True, eq=False)
class Lane:
    """A sequence with what it is fed or will be.

    Attributes:
        strand: The library's sequence; `strand.length` positions of it are fed.
        scope: See `Scope`.
        ids: Token ids; grows while a job runs on it.
        total: Positions that its job may come to.
    """

    strand: Strand
    scope: Scope
    ids: list[int]
    total: int = 0

    @property
    def pending(self) -> int:
        """Tokens that are not fed yet."""
        return len(self.ids) - self.strand.length


@dataclass(slots=True)
class Lanes:
    """The lanes of one model.

    Args:
        make: Makes a sequence of so many positions, with an adapter.
        positions: That all lanes may have together.
        longest: That one lane may have.
        kept_limit: Lanes that are kept beside those that run.
        can_rewind: Whether sequences can go back.
        alike: Every lane has `longest` positions.
    """

    make: Callable[[int, str], Strand]
    positions: int
    longest: int
    kept_limit: int
    can_rewind: bool
    alike: bool = False
    _running: list[Lane] = field(default_factory=list)
    _kept: list[Lane] = field(default_factory=list)  # least recently used first

    def open(self, scope: Scope, ids: list[int], total: int) -> Lane | None:
        """Give a job a lane; None: there is no room just now.

        What the lane found cached is `strand.length`, always less than `len(ids)`.

        Args:
            scope: The job's.
            ids: Its prompt; the lane's own list from now on.
            total: Positions that it may come to.
        """
        free = self.positions - sum(lane.strand.capacity for lane in self._running)
        if total > free:
            return None
        lane = self._take_over(scope, ids, total, free) or self._recycle(scope, ids, total)
        if lane is None:
            wanted = self._capacity(scope, ids, total, free)
            capacity = self.longest if self.alike else wanted
            self._evict(free - capacity)
            lane = Lane(self._made(capacity, scope.adapter), scope, ids)
        lane.total = total
        self._running.append(lane)
        return lane

    def _made(self, capacity: int, adapter: str) -> Strand:
        try:
            return self.make(capacity, adapter)
        except OutOfMemoryError:
            if not self._kept:
                raise
            self._drop(self._kept)
            return self.make(capacity, adapter)

    def _take_over(self, scope: Scope, ids: list[int], total: int, free: int) -> Lane | None:
        """The kept lane that begins most alike, unless more would be lost by it than won."""
        fitting = [k for k in self._kept if k.scope == scope and k.strand.capacity >= total]
        best = max(fitting, key=lambda kept: _alike(kept, ids), default=None)
        alike = 0 if best is None else _alike(best, ids)
        if best is None or not alike:
            return None
        kept = sum(lane.strand.capacity for lane in self._kept)
        crowded = kept + total > free or len(self._kept) >= self.kept_limit
        if 2 * alike < best.strand.length and not crowded:
            return None
        return self._reuse(best, ids, alike)

    def _recycle(self, scope: Scope, ids: list[int], total: int) -> Lane | None:
        """The memory of the lane that would be evicted next, where another is not worth making."""
        if len(self._kept) < self.kept_limit and not self._is_full(total):
            return None
        for kept in self._kept:
            # What it holds goes, so whose it was does not matter.
            if kept.scope.adapter == scope.adapter and kept.strand.capacity >= total:
                kept.scope = scope
                return self._reuse(kept, ids, 0)
        return None

    def _is_full(self, total: int) -> bool:
        taken = sum(lane.strand.capacity for lane in (*self._running, *self._kept))
        return taken + total > self.positions

    def _reuse(self, lane: Lane, ids: list[int], length: int) -> Lane | None:
        self._kept.remove(lane)
        try:
            lane.strand.rewind(length)
        except EngineError:
            self.can_rewind = False  # a model of another kind than its trial showed
            self._drop(self._kept)
            lane.strand.close()
            return None
        lane.ids = ids
        return lane

    def _capacity(self, scope: Scope, ids: list[int], total: int, free: int) -> int:
        """Positions of a new lane: what the job needs; twice that for a text that outgrew a lane.

        A lane cannot grow. Were each as long as its job, every turn of a conversation would feed
        all of it again; so this happens more and more rarely. The longer lane has at most one
        context and what is free, and the one that was too short goes.
        """
        for kept in self._kept:
            # Its capacity is too small, else it would have been taken over.
            if kept.scope == scope and 2 * _alike(kept, ids) >= kept.strand.length:
                self._drop((kept,))
                return min(2 * total, self.longest, free)
        return total

    def _evict(self, room: int) -> None:
        """Drop kept lanes, least recently used first, until they fit."""
        while self._kept and (
            len(self._kept) > self.kept_limit
            or sum(lane.strand.capacity for lane in self._kept) > room
        ):
            self._drop(self._kept[:1])

    def _drop(self, kept: Iterable[Lane]) -> None:
        for lane in list(kept):
            self._kept.remove(lane)
            lane.strand.close()

    def close(self, lane: Lane, *, keep: bool = True) -> None:
        """End a job's lane; what it was fed stays cached if it is to be kept."""
        self._running.remove(lane)
        if keep and self.can_rewind and lane.strand.length:
            del lane.ids[lane.strand.length :]
            self._kept.append(lane)
            running = sum(lane.strand.capacity for lane in self._running)
            self._evict(self.positions - running)
        else:
            lane.strand.close()

    def forget(self, adapter: str) -> bool:
        """Drop kept lanes with an adapter; False: a running one has it, so they stay."""
        if any(lane.scope.adapter == adapter for lane in self._running):
            return False
        self._drop(lane for lane in self._kept if lane.scope.adapter == adapter)
        return True

    def clear(self) -> None:
        """Free all."""
        self._drop(self._kept)
        while self._running:
            self._running.pop().strand.close()


def _alike(lane: Lane, ids: list[int]) -> int:
    """Positions that need no feeding: a common beginning, without the last token of the prompt."""
    limit = min(lane.strand.length, len(ids) - 1)
    start, block = 0, 256  # slices are compared at C's speed
    while start + block <= limit and lane.ids[start : start + block] == ids[start : start + block]:
        start += block
    while start < limit and lane.ids[start] == ids[start]:
        start += 1
    return start
