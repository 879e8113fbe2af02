"""Sequences that no lane runs on: free ones, and cached ones in the cells or parked beside them."""

from collections.abc import Hashable

from corral_kernel.errors import EngineError
from corral_llamacpp.memory import Cells, Key
from corral_llamacpp.parking import Parked, Parking
from corral_llamacpp.radix import Node, Tree

_TRIM = 256
"""Evict at least so many positions of a long sequence at once: each time walks all cells."""
_WORTH_PARKING = 256
"""Idle cells from which on they are parked: the library looks at so many at a time."""


class IdleSequences:
    """Keeps them, and evicts what was of use the longest time ago.

    Args:
        cells: The library's sequences.
        tree: What all of them hold, lanes' too.
        count: Of sequences.
        parking: Where cached ones go while lanes run; None: they stay in the cells.
    """

    def __init__(self, cells: Cells, tree: Tree, count: int, parking: Parking | None) -> None:
        self._cells = cells
        self._tree = tree
        self._parking = parking
        self._free = list(range(count))[::-1]
        self._cached: dict[int, Node] = {}

    def __contains__(self, sequence: int) -> bool:
        """Whether a sequence is cached."""
        return sequence in self._cached

    def keep(self, sequence: int, node: Node) -> None:
        """Cache a sequence that ends with a node."""
        self._cached[sequence] = node

    def take(self, sequence: int, node: Node) -> bool:
        """Take a sequence out, if it is cached and ends with this node."""
        if self._cached.get(sequence) is not node:
            return False
        del self._cached[sequence]
        return True

    def new_sequence(self, needed: int | None = None) -> int:
        """An empty sequence; if need be, that of the oldest cached one but `needed`."""
        if not self._free:
            unneeded = [sequence for sequence in self._cached if sequence != needed]
            if not unneeded:
                raise EngineError("more lanes than the context has sequences for")
            self.forget(min(unneeded, key=lambda sequence: self._cached[sequence].used))
        return self._free.pop()

    def share_instead(self, sequence: int, node: Node, start: int) -> None:
        """Give up a sequence's own cells from `start` to a node's end, for those of others."""
        source = next(iter(node.sequences()))
        self._cells.remove(sequence, start, node.stop)
        self._cells.share(source, sequence, start, node.stop)

    # --------------------------------------------------------------------------- eviction

    def evict(self, count: int) -> bool:
        """Free about so many cells, maybe fewer; False: no cell is only cached."""
        leaves = [s for s, n in self._cached.items() if not n.lanes and not n.children]
        if not leaves:
            return False
        oldest = min(leaves, key=lambda sequence: self._cached[sequence].used)
        self._shorten(oldest, max(count, _TRIM))
        return True

    def _shorten(self, sequence: int, count: int) -> None:
        """Take the last positions of a cached sequence, its last node's at most."""
        node = self._cached[sequence]
        if count < len(node.keys):
            self._cells.remove(sequence, node.stop - count, -1)
            self._tree.shrink(node, count)
            return
        parent = node.parent
        assert parent is not None
        if parent.parent is None or parent.lanes or parent.ends or len(parent.children) > 1:
            self.forget(sequence)  # others hold what is before
            return
        self._cells.remove(sequence, node.start, -1)
        node.ends.discard(sequence)
        parent.ends.add(sequence)
        self._cached[sequence] = parent
        self._tree.prune(node)

    def forget(self, sequence: int) -> None:
        """Evict a cached sequence."""
        node = self._cached.pop(sequence)
        node.ends.discard(sequence)
        self._cells.remove(sequence, 0, -1)
        self._free.append(sequence)
        self._tree.prune(node)

    def clear(self) -> None:
        """Evict all that is in cells."""
        for sequence in list(self._cached):
            self.forget(sequence)

    # ---------------------------------------------------------------------------- parking

    def park(self) -> None:
        """Copy out what no lane holds, so that the steps to come need not walk over it.

        A beginning that several sequences hold stays: each of their copies would have it whole.
        """
        if self._parking is None or self._tree.cells - self._tree.pinned < _WORTH_PARKING:
            return
        for sequence, node in sorted(self._cached.items(), key=lambda item: item[1].used):
            alone = not node.lanes and not node.children and node.ends == {sequence}
            if not alone or 2 * len(node.keys) < node.stop:
                continue
            if self._parking.takes(self._cells.size(sequence)):
                scope, keys = self._tree.prefix(node)
                self._parking.add(Parked(scope, keys, self._cells.save(sequence)))
                self.forget(sequence)

    @property
    def any_parked(self) -> bool:
        """Whether anything could be copied back."""
        return self._parking is not None and len(self._parking) > 0

    def parked(self, scope: Hashable, keys: list[Key], known: int) -> tuple[Parked, int] | None:
        """See `Parking.find`."""
        return None if self._parking is None else self._parking.find(scope, keys, known)

    def unpark(self, entry: Parked, length: int) -> None:
        """Cache the first positions of what is parked. There must be room for all of it."""
        assert self._parking is not None
        sequence = self.new_sequence()
        if not self._cells.restore(sequence, entry.state):
            self._parking.drop(entry)
            self._free.append(sequence)
            return
        self._parking.used(entry, length)
        self._cells.remove(sequence, length, -1)
        node, depth = self._tree.match(self._tree.root(entry.scope), entry.keys, length)
        node = self._tree.split(node, depth)
        if depth:  # others hold the same: one copy is enough
            self.share_instead(sequence, node, 0)
        if depth < length:
            node = self._tree.grow(node, entry.keys[depth:length])
        node.ends.add(sequence)
        self._tree.touch(node)
        self.keep(sequence, node)
