"""The parts of a GBNF grammar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

Ranges = tuple[tuple[int, int], ...]
"""Code points, first and last of each range, in order and apart."""

LAST_CODE_POINT = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


@dataclass(frozen=True, eq=False)
class Chars:
    """One character out of some."""

    ranges: Ranges


@dataclass(frozen=True, eq=False)
class Seq:
    """One after the other; none: the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Alt:
    """One of several."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Rep:
    """Several times; `most` None: any number."""

    part: Node
    least: int
    most: int | None


@dataclass(frozen=True, eq=False)
class Ref:
    """A rule by its name."""

    name: str


Node = Chars | Seq | Alt | Rep | Ref
EMPTY = Seq(())


def ranges_of(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Order and join ranges, and leave out what no text holds."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(_without_surrogates(joined))


def all_but(ranges: Ranges) -> Ranges:
    """Give every character that is in none of these."""
    edges = [(-1, -1), *ranges, (LAST_CODE_POINT + 1, LAST_CODE_POINT + 1)]
    gaps = ((before[1] + 1, after[0] - 1) for before, after in pairwise(edges))
    return ranges_of((first, last) for first, last in gaps if first <= last)


def overlap(one: Ranges, other: Ranges) -> bool:
    """Whether a character is in both."""
    i = j = 0
    while i < len(one) and j < len(other):
        if one[i][1] < other[j][0]:
            i += 1
        elif other[j][1] < one[i][0]:
            j += 1
        else:
            return True
    return False


def children(node: Node) -> Sequence[Node]:
    """Give what a node is made of."""
    if isinstance(node, Seq | Alt):
        return node.parts
    return (node.part,) if isinstance(node, Rep) else ()


def walk(node: Node) -> Iterator[Node]:
    """Give a node and all within it."""
    todo = [node]
    while todo:
        node = todo.pop()
        yield node
        todo += children(node)


def _without_surrogates(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    low, high = _SURROGATES
    for first, last in ranges:
        if last < low or first > high:
            yield first, last
            continue
        if first < low:
            yield first, low - 1
        if last > high:
            yield high + 1, last
