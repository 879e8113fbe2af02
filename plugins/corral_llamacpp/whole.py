"""Memory that cannot be cut: only whole cached sequences are reused.

So it is for recurrent and hybrid models, whose state is that of the last position alone, and for
sliding windows that forget. A cached sequence serves a lane that begins with all of it.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from corral_llamacpp.memory import Cells, Key, Lane, common_length


@dataclass(slots=True, eq=False)
class _Entry:
    sequence: int
    scope: Hashable
    keys: list[Key]


class WholeMemory:
    """See `Memory`. Cells are counted as if nothing were shared: too many, never too few.

    Args:
        cells: The library's sequences.
        capacity: Positions that they hold together.
        sequences: How many there are; more than lanes.
        copies: A cached sequence may be shared with a lane; else the lane takes it over.
    """

    shares = False

    def __init__(self, cells: Cells, capacity: int, sequences: int, *, copies: bool) -> None:
        self._cells = cells
        self._capacity = capacity
        self._copies = self.checkpoints = copies
        self._free = list(range(sequences))[::-1]
        self._lanes: set[Lane] = set()
        self._entries: list[_Entry] = []  # least recently used first

    def open(self, scope: Hashable, keys: list[Key], total: int) -> Lane | None:
        """See `Memory`."""
        if sum(lane.total for lane in self._lanes) + total > self._capacity:
            return None
        entry = self._find(scope, keys)
        if entry is None:
            sequence, fed = self._sequence(), 0
        elif self._copies and (self._free or len(self._entries) > 1):
            self._entries.remove(entry)
            self._entries.append(entry)
            sequence, fed = self._sequence(), len(entry.keys)
            self._cells.share(entry.sequence, sequence, 0, -1)
        else:
            self._entries.remove(entry)
            sequence, fed = entry.sequence, len(entry.keys)
        lane = Lane(sequence, scope, keys, total, fed)
        self._lanes.add(lane)
        return lane

    def _find(self, scope: Hashable, keys: list[Key]) -> _Entry | None:
        best: _Entry | None = None
        for entry in self._entries:
            length = len(entry.keys)
            if entry.scope != scope or length >= len(keys) or (best and length < len(best.keys)):
                continue
            if common_length(entry.keys, keys) == length:
                best = entry
        return best

    def _sequence(self) -> int:
        if not self._free:
            self._evict()
        return self._free.pop()

    def _evict(self) -> None:
        entry = self._entries.pop(0)
        self._cells.remove(entry.sequence, 0, -1)
        self._free.append(entry.sequence)

    def join(self, lane: Lane) -> None:
        """See `Memory`: what runs is not shared."""

    def make_room(self, count: int) -> None:
        """See `Memory`."""
        fed = sum(lane.fed for lane in self._lanes)
        cached = sum(len(entry.keys) for entry in self._entries)
        while self._entries and fed + cached + count > self._capacity:
            cached -= len(self._entries[0].keys)
            self._evict()

    def advance(self, lane: Lane, count: int) -> None:
        """See `Memory`."""
        lane.fed += count

    def checkpoint(self, lane: Lane) -> None:
        """See `Memory`."""
        keys = lane.keys[: lane.fed]
        known = any(e.scope == lane.scope and e.keys == keys for e in self._entries)
        if known or not self._copies or not (self._free or self._entries):
            return
        sequence = self._sequence()
        self._cells.share(lane.sequence, sequence, 0, -1)
        self._entries.append(_Entry(sequence, lane.scope, keys))

    def trim(self, lane: Lane, length: int) -> None:
        """See `Memory`; a state that cannot go back is forgotten, and the lane fed anew."""
        if length >= lane.fed:
            return
        if self._cells.remove(lane.sequence, length, -1):
            lane.fed = length
        else:
            self._cells.remove(lane.sequence, 0, -1)
            lane.fed = 0

    def cut(self, lane: Lane, start: int, stop: int) -> bool:
        """See `Memory`: never."""
        del lane, start, stop
        return False

    def close(self, lane: Lane) -> None:
        """See `Memory`."""
        self.trim(lane, len(lane.keys))
        self._lanes.discard(lane)
        keys = lane.keys[: lane.fed]
        twin = next((e for e in self._entries if e.scope == lane.scope and e.keys == keys), None)
        if not keys or twin is not None:
            self._cells.remove(lane.sequence, 0, -1)
            self._free.append(lane.sequence)
            return
        self._entries.append(_Entry(lane.sequence, lane.scope, keys))

    def drop_cached(self) -> None:
        """See `Memory`."""
        while self._entries:
            self._evict()
