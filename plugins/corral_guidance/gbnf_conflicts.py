"""Which lexemes of a GBNF grammar could run on into what follows another one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from corral_guidance.gbnf_nodes import Alt, Chars, Node, Ref, Rep, Seq, children, overlap


class TooLongError(Exception):
    """The search for conflicts takes too many steps."""


@dataclass
class _Span:
    """What can begin and end a part, and whether it may be empty."""

    first: tuple[Node, ...]
    last: tuple[Node, ...]
    nullable: bool


@dataclass
class _Automaton:
    """The characters of a lexeme: which begin it, end it, follow each other.

    A bounded repetition counts as an unbounded one, so that rather too many conflicts are found.
    """

    first: tuple[Node, ...] = ()
    last: frozenset[Node] = frozenset()
    after: dict[Node, set[Node]] = field(default_factory=dict)


class Conflicts:
    """Looks for lexemes that run on into what may follow another one at the same place."""

    def __init__(self, parts: Mapping[str, Node], whole: set[Node], steps: list[int]) -> None:
        self._parts = parts
        self._whole = whole
        self._steps = steps
        self._spans: dict[str, _Span] = {name: _Span((), (), nullable=False) for name in parts}
        self._next: dict[Node, set[Node]] = {}
        self._automata: dict[Node, _Automaton] = {}

    def found(self) -> set[Node]:
        """Give the lexemes that run on."""
        self._follow()
        torn: set[Node] = set()
        for one, other in self._together():
            if self._runs_on(one, other):
                torn.add(other)
            if one is not other and self._runs_on(other, one):
                torn.add(one)
        return torn

    def _count(self, steps: int = 1) -> None:
        self._steps[0] -= steps
        if self._steps[0] < 0:
            raise TooLongError

    # ------------------------------------------------------------- what follows what

    def _follow(self) -> None:
        """Find which lexemes begin and end each rule, and which follow each other."""
        changed = True
        while changed:
            changed = False
            for name, node in self._parts.items():
                span = self._span(node)
                before = self._spans[name]
                if (len(span.first), len(span.last), span.nullable) != (
                    len(before.first),
                    len(before.last),
                    before.nullable,
                ):
                    self._spans[name] = span
                    changed = True
        # With all spans known, once more for what follows what.
        for node in self._parts.values():
            self._span(node)

    def _span(self, node: Node) -> _Span:
        self._count()
        if node in self._whole:
            self._next.setdefault(node, set())
            return _Span((node,), (node,), nullable=False)
        if isinstance(node, Ref):
            return self._spans[node.name]
        if isinstance(node, Alt):
            spans = [self._span(part) for part in node.parts]
            return _Span(
                _joined(span.first for span in spans),
                _joined(span.last for span in spans),
                any(span.nullable for span in spans),
            )
        if isinstance(node, Rep):
            span = self._span(node.part)
            if node.most is None or node.most > 1:
                self._link(span.last, span.first)
            return _Span(span.first, span.last, node.least == 0 or span.nullable)
        assert isinstance(node, Seq)
        return self._in_turn([self._span(part) for part in node.parts])

    def _in_turn(self, spans: Sequence[_Span]) -> _Span:
        first: tuple[Node, ...] = ()
        last: tuple[Node, ...] = ()
        nullable = True
        for span in spans:
            self._link(last, span.first)
            if nullable:
                first = _joined((first, span.first))
            last = _joined((last, span.last)) if span.nullable else span.last
            nullable = nullable and span.nullable
        return _Span(first, last, nullable)

    def _link(self, before: Iterable[Node], after: tuple[Node, ...]) -> None:
        for node in before:
            self._count(len(after))
            self._next.setdefault(node, set()).update(after)

    def _together(self) -> set[tuple[Node, Node]]:
        """Give pairs of lexemes that may be looked for at the same place, each pair once."""
        pairs: set[tuple[Node, Node]] = set()
        todo: deque[tuple[Node, Node]] = deque()

        def meet(ones: Iterable[Node], others: Sequence[Node]) -> None:
            for one in ones:
                for other in others:
                    self._count()
                    if (one, other) not in pairs and (other, one) not in pairs:
                        pairs.add((one, other))
                        todo.append((one, other))

        begin = self._spans["root"].first
        meet(begin, begin)
        while todo:
            one, other = todo.popleft()
            if one is other or self._may_be_same(one, other):
                meet(self._next.get(one, ()), tuple(self._next.get(other, ())))
        return pairs

    def _may_be_same(self, one: Node, other: Node) -> bool:
        """Whether two lexemes may match the same text, so that both are taken at once."""
        firsts = self._automaton(one).first, self._automaton(other).first
        return any(overlap(_ranges(a), _ranges(b)) for a in firsts[0] for b in firsts[1])

    # ---------------------------------------------------------------------- running on

    def _runs_on(self, one: Node, other: Node) -> bool:
        """Whether `other` can go on where `one` has ended and something else is to follow."""
        short, long = self._automaton(one), self._automaton(other)
        to_come = [n for after in self._next.get(one, ()) for n in self._automaton(after).first]
        if not to_come:
            return False
        todo = [(a, b) for a in short.first for b in long.first]
        seen = set(todo)
        while todo:
            self._count()
            a, b = todo.pop()
            if not overlap(_ranges(a), _ranges(b)):
                continue
            rest = long.after.get(b, ())
            if a in short.last and any(
                overlap(_ranges(c), _ranges(d)) for c in rest for d in to_come
            ):
                return True
            for step in ((c, d) for c in short.after.get(a, ()) for d in rest):
                if step not in seen:
                    self._count()
                    seen.add(step)
                    todo.append(step)
        return False

    def _automaton(self, lexeme: Node) -> _Automaton:
        known = self._automata.get(lexeme)
        if known is None:
            known = self._automata[lexeme] = _Automaton()
            span = self._positions(lexeme, known.after)
            known.first, known.last = span.first, frozenset(span.last)
        return known

    def _positions(self, node: Node, after: dict[Node, set[Node]]) -> _Span:
        self._count()
        if isinstance(node, Chars):
            return _Span((node,), (node,), nullable=False)
        if isinstance(node, Alt):
            spans = [self._positions(part, after) for part in node.parts]
            return _Span(
                _joined(span.first for span in spans),
                _joined(span.last for span in spans),
                any(span.nullable for span in spans),
            )
        if isinstance(node, Rep):
            span = self._positions(node.part, after)
            if node.most is None or node.most > 1:
                self._join(after, span.last, span.first)
            return _Span(span.first, span.last, node.least == 0 or span.nullable)
        first: tuple[Node, ...] = ()
        last: tuple[Node, ...] = ()
        nullable = True
        for span in (self._positions(part, after) for part in children(node)):
            self._join(after, last, span.first)
            if nullable:
                first = _joined((first, span.first))
            last = _joined((last, span.last)) if span.nullable else span.last
            nullable = nullable and span.nullable
        return _Span(first, last, nullable)

    def _join(
        self, after: dict[Node, set[Node]], before: Iterable[Node], then: tuple[Node, ...]
    ) -> None:
        for node in before:
            self._count(len(then))
            after.setdefault(node, set()).update(then)


def _ranges(node: Node) -> tuple[tuple[int, int], ...]:
    assert isinstance(node, Chars)
    return node.ranges


def _joined(groups: Iterable[tuple[Node, ...]]) -> tuple[Node, ...]:
    return tuple(dict.fromkeys(node for group in groups for node in group))
