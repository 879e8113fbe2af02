"""Memory that can be cut anywhere: any common beginning is shared."""

from collections.abc import Hashable

from corral_kernel.errors import EngineError
from corral_llamacpp.idle import IdleSequences
from corral_llamacpp.memory import Cells, Key, Lane
from corral_llamacpp.parking import Parking
from corral_llamacpp.radix import Node, Tree


class SharedMemory:
    """See `Memory`. Cells are counted exactly, so an open lane can always be fed its total.

    What lanes hold counts as pinned; what is only cached can be evicted at any time. A lane is
    opened only if pinned cells and all that lanes may still need fit into the context together.

    Args:
        cells: The library's sequences.
        capacity: Positions that they hold together.
        sequences: How many there are; more than lanes.
        window: Of sliding-window layers, which may forget what lies before it; 0: none.
        can_move: Positions can be moved.
        parking: Where idle sequences go while lanes run, for cells without a window; None: they
            stay in the cells.
    """

    def __init__(  # noqa: PLR0913 - what a context is, each by its name
        self,
        cells: Cells,
        capacity: int,
        sequences: int,
        *,
        window: int = 0,
        can_move: bool = True,
        parking: Parking | None = None,
    ) -> None:
        self._cells = cells
        self._capacity = capacity
        self._window = window
        self._can_move = can_move and not window
        self._tree = Tree()
        self._idle = IdleSequences(cells, self._tree, sequences, parking)
        self._lanes: dict[Lane, Node] = {}  # where the part ends that is in the tree

    # --------------------------------------------------------------------------- counting

    @property
    def used(self) -> int:
        """Cells that are occupied."""
        return self._tree.cells + self._private

    @property
    def _private(self) -> int:
        return sum(lane.fed - node.stop for lane, node in self._lanes.items())

    @property
    def _promised(self) -> int:
        future = sum(lane.future for lane in self._lanes)
        return self._tree.pinned + self._private + future

    shares, checkpoints = True, False

    # ------------------------------------------------------------------------ opening a lane

    def open(self, scope: Hashable, keys: list[Key], total: int) -> Lane | None:
        """See `Memory`."""
        self._publish_all(scope)
        self._fetch(scope, keys, total)
        node, depth, source = self._find(self._tree.root(scope), keys)
        # Counted before anything is split: a part of the last node may stay out of it.
        fresh = self._tree.unpinned(node) - (0 if node.lanes else node.stop - depth)
        if self._promised + fresh + total - depth > self._capacity:
            return None
        node = self._tree.split(node, depth)
        sequence = self._sequence_for(node, source)
        lane = Lane(sequence, scope, keys, total, depth)
        node.ends.add(sequence)
        self._lanes[lane] = node
        self._tree.pin(node)
        self._tree.touch(node)
        self._idle.park()
        return lane

    def _find(self, root: Node, keys: list[Key]) -> tuple[Node, int, int | None]:
        """The longest usable prefix: the node that it ends in, its length, who holds it."""
        node, depth = self._tree.match(root, keys, len(keys) - 1)
        while node.parent is not None:
            for sequence in node.sequences():
                if self._reaches(sequence, depth):
                    return node, depth, sequence
            node, depth = node.parent, node.start
        return root, 0, None

    def _reaches(self, sequence: int, depth: int) -> bool:
        """Whether a sequence still holds all that the position after a prefix looks back on."""
        return not self._window or 0 <= self._cells.first(sequence) <= max(0, depth - self._window)

    def _sequence_for(self, node: Node, source: int | None) -> int:
        """A sequence that holds exactly what is before the end of a node."""
        if source is None:
            return self._idle.new_sequence()
        if self._idle.take(source, node):  # what was cached goes on as the lane
            return source
        self._tree.pin(node)
        sequence = self._idle.new_sequence(source)
        self._tree.unpin(node)
        self._cells.share(source, sequence, 0, node.stop)
        return sequence

    def _fetch(self, scope: Hashable, keys: list[Key], total: int) -> None:
        """Have what is parked copied back, if a prompt begins with more of it than cells hold."""
        if not self._idle.any_parked:
            return
        _, known, _ = self._find(self._tree.root(scope), keys)
        found = self._idle.parked(scope, keys, known)
        if found is not None:
            entry, length = found
            if self._promised + max(total, len(entry.keys)) <= self._capacity:
                self.make_room(len(entry.keys))
                self._idle.unpark(entry, length)

    def join(self, lane: Lane) -> None:
        """See `Memory`."""
        self._publish_all(lane.scope)
        before = self._lanes[lane]
        if lane.fed != before.stop:
            return
        node, depth = self._tree.match(before, lane.keys, len(lane.keys) - 1)
        if depth <= lane.fed:
            return
        source = next((s for s in node.sequences() if self._reaches(s, depth)), None)
        if source is None:
            return
        node = self._tree.split(node, depth)
        self._cells.share(source, lane.sequence, lane.fed, depth)
        self._end_at(lane, node)
        self._tree.pin(node, above=before)
        self._tree.touch(node)
        lane.fed = depth

    def _end_at(self, lane: Lane, node: Node) -> None:
        self._lanes[lane].ends.discard(lane.sequence)
        node.ends.add(lane.sequence)
        self._lanes[lane] = node

    # ---------------------------------------------------------------------- running a lane

    def advance(self, lane: Lane, count: int) -> None:
        """See `Memory`."""
        lane.fed += count

    def _publish_all(self, scope: Hashable) -> None:
        for lane in self._lanes:
            if lane.scope == scope:
                self._publish(lane)

    def _publish(self, lane: Lane) -> bool:
        """Let others share what a lane was fed so far; False: not all of it can be."""
        known = min(lane.fed, len(lane.keys))
        if lane.pure is not None:
            known = min(known, lane.pure)
        node = self._lanes[lane]
        while (start := node.stop) < known:
            before = node
            reached, depth = self._tree.match(node, lane.keys, known)
            if depth > start:  # others hold the same: one copy is enough
                node = self._tree.split(reached, depth)
                if not self._give_up_copy(lane, node, start):
                    return False
            elif node.parent and node.ends == {lane.sequence} and not node.children:
                self._tree.lengthen(node, lane.keys[start:known])
                continue
            else:
                node = self._tree.grow(node, lane.keys[start:known])
            self._end_at(lane, node)
            self._tree.pin(node, above=before)
        return True

    def _give_up_copy(self, lane: Lane, node: Node, start: int) -> bool:
        if self._window:  # the other's may have forgotten what this one still needs
            return False
        self._idle.share_instead(lane.sequence, node, start)
        return True

    def checkpoint(self, lane: Lane) -> None:
        """See `Memory`: any beginning can be had."""

    def trim(self, lane: Lane, length: int) -> None:
        """See `Memory`."""
        if length >= lane.fed:
            return
        self._retreat(lane, length)
        self._cells.remove(lane.sequence, length, -1)
        lane.fed = length

    def _retreat(self, lane: Lane, length: int) -> None:
        """Let a lane's part of the tree end at a position or before; it still holds the rest."""
        node = self._lanes[lane]
        while node.stop > length:
            assert node.parent is not None
            if node.start < length:
                self._tree.split(node, length)
            parent = node.parent
            self._end_at(lane, parent)
            self._tree.unpin(node, above=parent)
            self._tree.prune(node)
            node = parent

    def cut(self, lane: Lane, start: int, stop: int) -> bool:
        """See `Memory`; False where others hold what would have to move."""
        if not self._can_move or not 0 <= start < stop <= lane.fed:
            return False
        path = list(self._lanes[lane].path())
        # What others hold on to is not freed by the cut, while this lane may need as much again.
        kept = sum(
            min(n.stop, stop) - max(n.start, start)
            for n in path
            if n.lanes > 1 and n.stop > start and n.start < stop
        )
        if self._promised + kept > self._capacity or not self._make_private(lane, stop):
            return False
        self._retreat(lane, start)
        self._cells.remove(lane.sequence, start, stop)
        self._cells.move(lane.sequence, stop, -1, start - stop)
        lane.fed -= stop - start
        lane.pure = start if lane.pure is None else min(start, lane.pure)
        return True

    def _make_private(self, lane: Lane, stop: int) -> bool:
        """Evict what is cached of the positions from `stop` on; False if a lane holds them."""
        steps = [node for node in self._lanes[lane].path() if node.stop > stop]
        if not steps:
            return True
        if steps[-1].lanes > 1:
            return False
        for sequence in [s for s in steps[-1].sequences() if s != lane.sequence]:
            self._idle.forget(sequence)
        return True

    # ---------------------------------------------------------------------- ending a lane

    def close(self, lane: Lane) -> None:
        """See `Memory`."""
        if lane.pure is not None:
            self.trim(lane, lane.pure)
        self.trim(lane, len(lane.keys))
        if not self._publish(lane):
            self.trim(lane, self._lanes[lane].stop)
        node = self._lanes.pop(lane)
        self._tree.unpin(node)
        self._tree.touch(node)
        self._idle.keep(lane.sequence, node)
        for step in list(node.path()):
            for sequence in [s for s in step.ends if s in self._idle and s != lane.sequence]:
                if step is node or not self._window:
                    self._idle.forget(sequence)  # what it holds, the lane's sequence holds too
        if node.parent is None or node.children or node.ends != {lane.sequence}:
            self._idle.forget(lane.sequence)

    # --------------------------------------------------------------------------- eviction

    def make_room(self, count: int) -> None:
        """See `Memory`."""
        while (missing := self.used + count - self._capacity) > 0:
            if not self._idle.evict(missing):
                raise EngineError(f"{self.used} of {self._capacity} cells are used, none cached")

    def drop_cached(self) -> None:
        """See `Memory`."""
        self._idle.clear()
