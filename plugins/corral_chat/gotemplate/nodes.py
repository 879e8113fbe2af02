"""The syntax tree of a template. `str(node)` is its source as Go's errors quote it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Node:
    """Any part of a template; `at` counts characters from the source's beginning."""

    at: int


@dataclass(slots=True, eq=False)
class Text(Node):
    """Literal text."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True, eq=False)
class Identifier(Node):
    """The name of a function."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True, eq=False)
class Field(Node):
    """`.A.B`."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "." + ".".join(self.names)


@dataclass(slots=True, eq=False)
class Variable(Node):
    """`$x.A.B`: the first name is the variable's, its `$` is part of it."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(slots=True, eq=False)
class Chain(Node):
    """Fields of something in parentheses, or of a function's result."""

    node: Node
    names: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        inner = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return ".".join((inner, *self.names))


@dataclass(slots=True, eq=False)
class Dot(Node):
    """`.`."""

    def __str__(self) -> str:
        return "."


@dataclass(slots=True, eq=False)
class Nil(Node):
    """`nil`."""

    def __str__(self) -> str:
        return "nil"


@dataclass(slots=True, eq=False)
class Constant(Node):
    """A literal: a truth value, a number or a string."""

    text: str
    value: bool | int | float | str

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True, eq=False)
class Command(Node):
    """A function or value, and what it is given."""

    args: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return " ".join(f"({arg})" if isinstance(arg, Pipe) else str(arg) for arg in self.args)


@dataclass(slots=True, eq=False)
class Pipe(Node):
    """Commands, each given the result of the one before, and the variables that get the last's."""

    commands: list[Command] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    assigns: bool = False

    def __str__(self) -> str:
        text = " | ".join(map(str, self.commands))
        if not self.variables:
            return text
        names = ", ".join(map(str, self.variables))
        return f"{names} {'=' if self.assigns else ':='} {text}"


@dataclass(slots=True, eq=False)
class Action(Node):
    """`{{pipe}}`."""

    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


@dataclass(slots=True, eq=False)
class List(Node):
    """Nodes one after the other."""

    nodes: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return "".join(map(str, self.nodes))


@dataclass(slots=True, eq=False)
class Branch(Node):
    """`if`, `with` and `range`."""

    pipe: Pipe
    body: List
    otherwise: List | None

    def __str__(self) -> str:
        word = type(self).__name__.lower()
        rest = f"{{{{else}}}}{self.otherwise}" if self.otherwise is not None else ""
        return f"{{{{{word} {self.pipe}}}}}{self.body}{rest}{{{{end}}}}"


class If(Branch):
    """`{{if}}`."""

    __slots__ = ()


class With(Branch):
    """`{{with}}`."""

    __slots__ = ()


class Range(Branch):
    """`{{range}}`."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Break(Node):
    """`{{break}}`."""

    def __str__(self) -> str:
        return "{{break}}"


@dataclass(slots=True, eq=False)
class Continue(Node):
    """`{{continue}}`."""

    def __str__(self) -> str:
        return "{{continue}}"


@dataclass(slots=True, eq=False)
class Invocation(Node):
    """`{{template "name" pipe}}`."""

    name: str
    quoted: str
    pipe: Pipe | None

    def __str__(self) -> str:
        pipe = f" {self.pipe}" if self.pipe else ""
        return f"{{{{template {self.quoted}{pipe}}}}}"


@dataclass(slots=True, eq=False)
class End(Node):
    """`{{end}}`; only while parsing."""

    def __str__(self) -> str:
        return "{{end}}"


@dataclass(slots=True, eq=False)
class Else(Node):
    """`{{else}}`; only while parsing."""

    def __str__(self) -> str:
        return "{{else}}"


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed template: its own nodes, and those of the templates that it defines by name."""

    source: str
    root: List
    defined: dict[str, List]


def children(node: Node) -> Iterator[Node]:
    """Give what a node is made of, in the order of the source."""
    match node:
        case List():
            yield from node.nodes
        case Branch():
            yield node.pipe
            yield node.body
            if node.otherwise is not None:
                yield node.otherwise
        case Action():
            yield node.pipe
        case Invocation():
            if node.pipe is not None:
                yield node.pipe
        case Pipe():
            yield from node.commands
        case Command():
            yield from node.args
        case Chain():
            yield node.node


def is_empty(node: Node | None) -> bool:
    """Whether nothing but blanks is in it."""
    match node:
        case None:
            return True
        case List():
            return all(map(is_empty, node.nodes))
        case Text():
            return not node.text.strip()
    return False
