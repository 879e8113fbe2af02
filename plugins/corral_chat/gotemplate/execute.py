"""Executes a parsed template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from corral_chat.bounds import check_chars
from corral_chat.gotemplate import nodes
from corral_chat.gotemplate.evaluate import Evaluation
from corral_chat.gotemplate.formatting import show
from corral_chat.gotemplate.functions import Function
from corral_chat.gotemplate.strings import quote, rejoined
from corral_chat.gotemplate.values import (
    INVALID,
    GoList,
    GoMap,
    Struct,
    is_true,
)

MAX_DEPTH = 100
"""Of templates that invoke one another."""

_BREAK: Final = "break"
_CONTINUE: Final = "continue"


def execute(tree: nodes.Tree, root: GoMap, functions: Mapping[str, Function]) -> str:
    """Execute a template.

    Args:
        tree: Parsed.
        root: What its fields are looked up in.
        functions: That it may call beside Go's own.

    Raises:
        ExecutionProblem: If it fails.
        OverBoundsError: If it uses more than it may.
    """
    return Execution(tree, functions).run(root)


class Execution(Evaluation):
    """One run of a template, or several whose output goes to one place."""

    def __init__(self, tree: nodes.Tree, functions: Mapping[str, Function]) -> None:
        super().__init__(tree, functions)
        self._pieces: list[str] = []
        self._chars = 0
        self._depth = 0
        self._walkers: dict[type, Callable[[Any, Any], str | None]] = {
            nodes.Text: self._text,
            nodes.Action: self._action,
            nodes.If: self._if,
            nodes.With: self._with,
            nodes.Range: self._range,
            nodes.Invocation: self._invocation,
            nodes.List: self._list,
            nodes.Break: lambda _dot, _node: _BREAK,
            nodes.Continue: lambda _dot, _node: _CONTINUE,
        }

    def run(self, root: GoMap, body: nodes.List | None = None) -> str:
        """Execute it, or other nodes in its stead; gives all output so far.

        Raises:
            ExecutionProblem: If it fails.
            OverBoundsError: If it uses more than it may.
        """
        self._variables = [("$", root)]
        self._list(root, self._tree.root if body is None else body)
        return rejoined("".join(self._pieces))

    def _write(self, text: str) -> None:
        self._chars += len(text)
        check_chars(self._chars)
        self._pieces.append(text)

    # -------------------------------------------------------------------------------- nodes

    def _list(self, dot: Any, node: nodes.List) -> str | None:
        walkers, step = self._walkers, self._budget.step
        for child in node.nodes:
            step()
            self._node = child
            jump = walkers[type(child)](dot, child)
            if jump is not None:
                return jump
        return None

    def _text(self, _dot: Any, node: nodes.Text) -> None:
        self._write(node.text)

    def _action(self, dot: Any, node: nodes.Action) -> None:
        value = self._pipeline(dot, node.pipe)
        if node.pipe.variables:
            return
        self._node = node
        if value.__class__ is str:
            self._write(value)
        else:
            self._write(self._printed(value))

    def _printed(self, value: Any) -> str:
        if value is INVALID:
            return "<no value>"
        if isinstance(value, Struct) and value.kind.pointer:
            value = Struct(value.kind.target, value.values)
        return show(value)

    def _if(self, dot: Any, node: nodes.If) -> str | None:
        return self._choice(dot, node, rebinds=False)

    def _with(self, dot: Any, node: nodes.With) -> str | None:
        return self._choice(dot, node, rebinds=True)

    def _choice(self, dot: Any, node: nodes.Branch, *, rebinds: bool) -> str | None:
        mark = len(self._variables)
        value = self._pipeline(dot, node.pipe)
        jump = None
        if is_true(value):
            jump = self._list(value if rebinds else dot, node.body)
        elif node.otherwise is not None:
            jump = self._list(dot, node.otherwise)
        del self._variables[mark:]
        return jump

    def _range(self, dot: Any, node: nodes.Range) -> str | None:
        mark = len(self._variables)
        value = self._pipeline(dot, node.pipe)
        pairs = self._pairs(value, node)
        inner = len(self._variables)
        ran = False
        for key, item in pairs:
            ran = True
            self._budget.step()
            self._bind(node.pipe, key, item)
            jump = self._list(item, node.body)
            del self._variables[inner:]
            if jump is _BREAK:
                break
        jump = None
        if not ran and node.otherwise is not None:
            jump = self._list(dot, node.otherwise)
        del self._variables[mark:]
        return jump

    def _pairs(self, value: Any, node: nodes.Range) -> Any:
        if isinstance(value, GoList):
            return enumerate(value.items)
        if isinstance(value, GoMap):
            return value.sorted()
        if value is INVALID:
            return ()
        if isinstance(value, int) and not isinstance(value, bool):
            if len(node.pipe.variables) > 1:
                raise self._fail(f"can't use {show(value)} to iterate over more than one variable")
            return ((INVALID, number) for number in range(value))
        if isinstance(value, Struct) and value.kind.pointer:
            value = Struct(value.kind.target, value.values)
        raise self._fail(f"range can't iterate over {show(value)}")

    def _bind(self, pipe: nodes.Pipe, key: Any, item: Any) -> None:
        names = pipe.variables
        if not names:
            return
        if pipe.assigns:
            self._assign(names[0].names[0], key if len(names) > 1 else item)
            if len(names) > 1:
                self._assign(names[1].names[0], item)
            return
        self._variables[-1] = (self._variables[-1][0], item)
        if len(names) > 1:
            self._variables[-2] = (self._variables[-2][0], key)

    def _invocation(self, dot: Any, node: nodes.Invocation) -> None:
        body = self._tree.defined.get(node.name)
        if body is None and node.name == "":
            body = self._tree.root
        if body is None:
            raise self._fail(f"template {quote(node.name)} not defined")
        if self._depth >= MAX_DEPTH:
            raise self._fail(f"exceeded maximum template depth ({MAX_DEPTH})")
        value = INVALID if node.pipe is None else self._pipeline(dot, node.pipe)
        outer = self._variables, self._name
        self._variables, self._name = [("$", value)], node.name
        self._depth += 1
        self._list(value, body)
        self._depth -= 1
        self._variables, self._name = outer
