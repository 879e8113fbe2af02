"""Evaluates what stands in a template's actions: pipelines, fields, calls of functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from corral_chat.bounds import Budget, start
from corral_chat.gotemplate import nodes
from corral_chat.gotemplate.comparing import CallProblem
from corral_chat.gotemplate.formatting import show
from corral_chat.gotemplate.functions import BUILTINS, Function
from corral_chat.gotemplate.strings import encode, quote
from corral_chat.gotemplate.values import (
    ANY,
    INVALID,
    MISSING,
    GoMap,
    Struct,
    concrete,
    is_true,
    type_name,
)


class ExecutionProblem(Exception):  # noqa: N818 - what is wrong is the template's, not ours
    """A template that fails; the text is Go's."""


class Evaluation:
    """The variables of one run of a template, and what its actions come to.

    Args:
        tree: Parsed.
        functions: That it may call beside Go's own.
    """

    def __init__(self, tree: nodes.Tree, functions: Mapping[str, Function]) -> None:
        self._tree = tree
        self._functions = functions
        self._budget: Budget = start()
        self._variables: list[tuple[str, Any]] = []
        self._node: nodes.Node = tree.root
        self._name = ""  # of the template that runs

    def _fail(self, message: str) -> ExecutionProblem:
        before = self._tree.source[: self._node.at]
        line = before.count("\n") + 1
        column = len(encode(before.rpartition("\n")[2]))
        where = f"template: :{line}:{column}: executing {quote(self._name)}"
        return ExecutionProblem(f"{where} at <{self._node}>: {message}")

    # ---------------------------------------------------------------------------- variables

    def _assign(self, name: str, value: Any) -> None:
        for place in range(len(self._variables) - 1, -1, -1):
            if self._variables[place][0] == name:
                self._variables[place] = (name, value)
                return
        raise self._fail(f"undefined variable: {name}")

    def _variable(self, name: str) -> Any:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        raise self._fail(f"undefined variable: {name}")

    # ---------------------------------------------------------------------------- pipelines

    def _pipeline(self, dot: Any, pipe: nodes.Pipe) -> Any:
        self._node = pipe
        value: Any = MISSING
        for command in pipe.commands:
            self._budget.step()
            value = self._command(dot, command, value)
            if value is None:
                value = INVALID
        for variable in pipe.variables:
            if pipe.assigns:
                self._assign(variable.names[0], value)
            else:
                self._variables.append((variable.names[0], value))
        return value

    def _command(self, dot: Any, command: nodes.Command, final: Any) -> Any:
        first = command.args[0]
        match first:
            case nodes.Field():
                self._node = first
                return self._fields(dot, first.names, command.args, final)
            case nodes.Identifier():
                return self._call(dot, first, command, command.args[1:], final)
            case nodes.Variable():
                return self._variable_fields(first, command.args, final)
            case nodes.Chain():
                return self._chain(dot, first, command.args, final)
            case nodes.Pipe():
                self._refuse_arguments(command.args, final)
                return self._pipeline(dot, first)
        self._node = first
        self._refuse_arguments(command.args, final)
        if isinstance(first, nodes.Nil):
            raise self._fail("nil is not a command")
        return self._literal(dot, first)

    def _refuse_arguments(self, args: Sequence[nodes.Node], final: Any) -> None:
        if len(args) > 1 or final is not MISSING:
            raise self._fail(f"can't give argument to non-function {args[0]}")

    def _literal(self, dot: Any, node: nodes.Node) -> Any:
        if isinstance(node, nodes.Dot):
            return dot
        assert isinstance(node, nodes.Constant)
        return node.value

    # ------------------------------------------------------------------------------- fields

    def _variable_fields(self, node: nodes.Variable, args: Sequence[nodes.Node], final: Any) -> Any:
        self._node = node
        value = self._variable(node.names[0])
        if len(node.names) == 1:
            self._refuse_arguments(args, final)
            return value
        return self._fields(value, node.names[1:], args, final)

    def _chain(self, dot: Any, node: nodes.Chain, args: Sequence[nodes.Node], final: Any) -> Any:
        self._node = node
        if isinstance(node.node, nodes.Nil):
            raise self._fail(f"indirection through explicit nil in {node}")
        value = self._argument(dot, node.node)
        return self._fields(value, node.names, args, final)

    def _fields(
        self,
        value: Any,
        names: Sequence[str],
        args: Sequence[nodes.Node],
        final: Any,
    ) -> Any:
        static = ""  # the name of the type by which a value was found, if not its own
        has_arguments = len(args) > 1 or final is not MISSING
        last = len(names) - 1
        for place, name in enumerate(names):
            if value is INVALID:
                return INVALID
            if value is None:
                raise self._fail(f"nil pointer evaluating {ANY}.{name}")
            given = has_arguments and place == last
            if isinstance(value, GoMap):
                if given and not (name == "String" and value.prints_json):
                    raise self._fail(f"{name} is not a method but has arguments")
                static = value.element_type
                static = static if static == ANY else ""
                value = self._method(value, name, given=given)
            elif isinstance(value, Struct) and name in value.values:
                if given:
                    raise self._fail(f"{name} has arguments but cannot be invoked as function")
                value, static = value.values[name], ""
            else:
                value, static = self._other(value, name, static, given=given), ""
        return value

    def _method(self, value: GoMap, name: str, *, given: bool) -> Any:
        if value.prints_json and name == "String":
            return self._string_method(value, given=given)
        return value.items.get(name, value.zero)

    def _string_method(self, value: Any, *, given: bool) -> str:
        if given:
            raise self._fail("wrong number of args for String: want 0 got 1")
        return show(value)

    def _other(self, value: Any, name: str, static: str, *, given: bool) -> Any:
        """Call a method without arguments."""
        if isinstance(value, Struct) and name in value.kind.methods and not given:
            return value.kind.methods[name](value)
        prints = value.kind if isinstance(value, Struct) else value
        if name == "String" and getattr(prints, "prints_json", False):
            return self._string_method(value, given=given)
        kind = static or type_name(value)
        raise self._fail(f"can't evaluate field {name} in type {kind}")

    # ------------------------------------------------------------------------------ functions

    def _call(
        self,
        dot: Any,
        node: nodes.Identifier,
        command: nodes.Node,
        args: Sequence[nodes.Node],
        final: Any,
    ) -> Any:
        self._node = node
        name = node.name
        function = self._functions.get(name) or BUILTINS.get(name)
        if function is None:
            raise self._fail(f"{quote(name)} is not a defined function")
        given = len(args) + (final is not MISSING)
        if function.variadic and given < function.fixed:
            want = f"want at least {function.fixed} got {len(args)}"
            raise self._fail(f"wrong number of args for {name}: {want}")
        if not function.variadic and given != function.fixed:
            want = f"want {function.fixed} got {given}"
            raise self._fail(f"wrong number of args for {name}: {want}")
        if name in ("and", "or"):
            return self._and_or(dot, args, final, decides=name == "or")
        values = [self._wanted(dot, arg, function, place) for place, arg in enumerate(args)]
        if final is not MISSING:
            values.append(self._taken(final, function, len(args)))
        try:
            return function.run(*values)
        except CallProblem as problem:
            self._node = command
            message = str(problem)
            if name == "call":
                callee = str(args[0]) if args else show(final)
                message = message.replace("non-function", f"non-function {callee}")
            raise self._fail(f"error calling {name}: {message}") from None

    def _and_or(self, dot: Any, args: Sequence[nodes.Node], final: Any, *, decides: bool) -> Any:
        value: Any = INVALID
        for arg in args:
            value = self._argument(dot, arg)
            if is_true(concrete(value)) is decides:
                return value
        return value if final is MISSING else final

    def _wanted(self, dot: Any, arg: nodes.Node, function: Function, place: int) -> Any:
        if not (function.text_first and place == 0):
            value = self._argument(dot, arg)
            return self._taken(value, function, place)
        self._node = arg
        if isinstance(arg, nodes.Nil):
            raise self._fail("cannot assign nil to string")
        if isinstance(arg, nodes.Constant) and not isinstance(arg.value, str):
            raise self._fail(f"expected string; found {arg}")
        return self._taken(self._argument(dot, arg), function, place)

    def _taken(self, value: Any, function: Function, place: int) -> Any:
        """Check a value against what a function takes."""
        if function.text_first and place == 0:
            if value is INVALID:
                raise self._fail("invalid value; expected string")
            if not isinstance(value, str):
                got = type_name(value)
                raise self._fail(f"wrong type for value; expected string; got {got}")
        elif value is INVALID and function.takes == "any":
            return None
        return value

    def _argument(self, dot: Any, node: nodes.Node) -> Any:  # noqa: PLR0911 - a way for each kind
        self._node = node
        match node:
            case nodes.Constant():
                return node.value
            case nodes.Field():
                return self._fields(dot, node.names, (), MISSING)
            case nodes.Variable():
                return self._variable_fields(node, (), MISSING)
            case nodes.Pipe():
                return self._pipeline(dot, node)
            case nodes.Dot():
                return dot
            case nodes.Nil():
                return INVALID
            case nodes.Identifier():
                return self._call(dot, node, node, (), MISSING)
        assert isinstance(node, nodes.Chain)
        return self._chain(dot, node, (), MISSING)
