"""The tree of what sequences hold: which prefixes are there, and who holds their cells.

A node is a run of positions that are always held together; a sequence holds every cell on the way
from the root to the node where it ends. So cells are counted once however many hold them, and what
a sequence alone holds is known without asking the library.
"""

from collections.abc import Hashable, Iterator

from corral_llamacpp.memory import Key, common_length


class Node:
    """A run of positions.

    Attributes:
        start: Its first position.
        keys: What its positions hold; empty for a root alone.
        parent: The run before it.
        children: The runs that follow, by their first key.
        ends: Sequences that end here.
        lanes: How many open lanes hold it.
        used: When it was last matched or held; greater is later.
    """

    __slots__ = ("children", "ends", "keys", "lanes", "parent", "start", "used")

    def __init__(self, start: int, keys: list[Key], parent: "Node | None") -> None:
        self.start = start
        self.keys = keys
        self.parent = parent
        self.children: dict[Key, Node] = {}
        self.ends: set[int] = set()
        self.lanes = 0
        self.used = 0

    @property
    def stop(self) -> int:
        """The position after its last."""
        return self.start + len(self.keys)

    def path(self) -> Iterator["Node"]:
        """This node and all before it, the root last."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def sequences(self) -> Iterator[int]:
        """Sequences that hold all of it: those that end here or further on."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield from node.ends
            pending.extend(node.children.values())


class Tree:
    """Prefixes of one kind: all its sequences may share. Counts cells, calls nothing.

    Attributes:
        cells: Of all nodes.
        pinned: Of the nodes that open lanes hold.
    """

    def __init__(self) -> None:
        self.cells = 0
        self.pinned = 0
        self._roots: dict[Hashable, Node] = {}
        self._clock = 0

    def root(self, scope: Hashable) -> Node:
        """Where the prefixes of a scope begin."""
        if scope not in self._roots:
            self._roots[scope] = Node(0, [], None)
        return self._roots[scope]

    def prefix(self, node: Node) -> tuple[Hashable, list[Key]]:
        """The scope of a node, and what all positions up to its end hold."""
        path = list(node.path())[::-1]
        scope = next(scope for scope, root in self._roots.items() if root is path[0])
        return scope, [key for step in path for key in step.keys]

    def match(self, node: Node, keys: list[Key], limit: int) -> tuple[Node, int]:
        """Follow keys from the end of a node as far as they go.

        Args:
            node: Where to begin; `keys` hold its positions too.
            keys: Of all positions from 0.
            limit: Position to stop at.

        Returns:
            The last node that is reached, maybe only in part, and the position after the last
            that is alike.
        """
        depth = node.stop
        while depth < limit and (child := node.children.get(keys[depth])) is not None:
            alike = common_length(child.keys, keys[depth : min(limit, child.stop)])
            node, depth = child, depth + alike
            if depth < child.stop:
                break
        return node, depth

    def split(self, node: Node, position: int) -> Node:
        """Make a node end at a position inside it; gives the part before it."""
        if position == node.stop:
            return node
        assert node.parent is not None
        assert node.start < position < node.stop
        before = Node(node.start, node.keys[: position - node.start], node.parent)
        before.lanes, before.used = node.lanes, node.used
        node.parent.children[before.keys[0]] = before
        node.keys = node.keys[len(before.keys) :]
        node.start, node.parent = position, before
        before.children[node.keys[0]] = node
        return before

    def grow(self, node: Node, keys: list[Key]) -> Node:
        """Add a run after a node."""
        child = Node(node.stop, keys, node)
        node.children[keys[0]] = child
        self.cells += len(keys)
        return child

    def lengthen(self, node: Node, keys: list[Key]) -> None:
        """Add positions to a leaf that one lane alone holds."""
        assert node.lanes == 1
        assert not node.children
        node.keys += keys
        self.cells += len(keys)
        self.pinned += len(keys)

    def shrink(self, node: Node, count: int) -> None:
        """Take the last positions of a leaf that no lane holds, fewer than all."""
        assert not node.children
        assert not node.lanes
        del node.keys[-count:]
        self.cells -= count

    def prune(self, node: Node) -> None:
        """Take away a node that nobody holds, and those before it that nobody holds then."""
        while node.parent is not None and not node.ends and not node.children and not node.lanes:
            del node.parent.children[node.keys[0]]
            self.cells -= len(node.keys)
            node = node.parent
        self._join(node)

    def _join(self, node: Node) -> None:
        """Put a node and its only child together where nothing ends between them."""
        if node.parent is None or node.ends or len(node.children) != 1:
            return
        (child,) = node.children.values()
        if child.lanes != node.lanes:
            return
        child.keys = node.keys + child.keys
        child.start, child.parent = node.start, node.parent
        child.used = max(child.used, node.used)
        node.parent.children[child.keys[0]] = child

    def unpinned(self, node: Node) -> int:
        """Positions on the way to the end of a node that no lane holds yet."""
        return sum(len(step.keys) for step in node.path() if not step.lanes)

    def pin(self, node: Node, above: Node | None = None) -> None:
        """An open lane holds a node and all before it, down from `above`, which it held before."""
        for step in node.path():
            if step is above:
                break
            step.lanes += 1
            if step.lanes == 1:
                self.pinned += len(step.keys)

    def unpin(self, node: Node, above: Node | None = None) -> None:
        """It holds them no longer."""
        for step in node.path():
            if step is above:
                break
            step.lanes -= 1
            if not step.lanes:
                self.pinned -= len(step.keys)

    def touch(self, node: Node) -> None:
        """Note that a prefix was of use."""
        self._clock += 1
        for step in node.path():
            step.used = self._clock
