"""Calls written as Python writes them: `[get_weather(city="Oslo", days=3)]`, or one a line."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from corral_chat.parsing.forms import (
    Call,
    CallForm,
    MalformedCallError,
    NotACallError,
    Scanner,
    Tools,
)
from corral_chat.parsing.json_calls import literal
from corral_chat.parsing.json_text import read_json, write_json
from corral_chat.parsing.rules import definitions, plain_properties, sequence_rules
from corral_chat.parsing.typed import CannotHoldError

MOST_CHARS: Final = 200_000
"""A text that is longer is not read: Python's parser takes a hundred bytes for each character."""
MOST_NESTED: Final = 100

_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_NAME: Final = re.compile(r"[A-Za-z_][\w.]*\Z", re.ASCII)
_OPENERS, _CLOSERS = frozenset("([{"), frozenset(")]}")
_BARE_START: Final = re.compile(r"\[\s*(?P<name>[A-Za-z_][\w.]*)?\s*(?P<open>\()?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PythonCalls(CallForm):
    """Python's calls with named arguments.

    Attributes:
        listed: They stand in a list; else one a line.
        alone: A list without a mark is one if it begins with the name of a tool.
        marks: As `CallForm` has it.
    """

    listed: bool = True
    alone: bool = False
    marks: tuple[str, ...] = ()

    @property
    def opening(self) -> str:
        """What calls begin with."""
        return "[" if self.listed else ""

    def scanner(self, end: str) -> Scanner:
        """Make what finds the end."""
        return _ListScanner() if self.alone else CallForm.scanner(self, end)

    def parse(self, text: str, tools: Tools) -> Sequence[Call]:
        """Read all calls of a text.

        Raises:
            MalformedCallError: If one of them is none.
        """
        calls = [_call(node, source) for node, source in _nodes(text)]
        if self.alone and not all(call.name in tools for call in calls):
            raise MalformedCallError("a list of other things")
        return calls

    def grammar(self, tools: Tools, *, begun: bool = False) -> str | None:
        """Write the grammar; None: a name cannot be written so."""
        if not all(_NAME.match(name) for name in tools):
            return None
        rules: list[str] = []
        try:
            for place, name in enumerate(tools):
                arguments = f"call_{place}_from_0"
                rules.append(f"call_{place}: {literal(name + '(')} {arguments} {literal(')')}")
                rules += _argument_rules(place, tools.schema(name))
        except CannotHoldError:
            return None
        names = [f"call_{place}" for place in range(len(tools))]
        separator = literal(", ") if self.listed else literal("\n")
        start = f"call ({separator} call)*"
        if self.listed:
            start = f'{start} "]"' if begun else f'"[" {start} "]"'
        return "\n".join([f"start: {start}", f"call: {' | '.join(names)}", *rules])


def _argument_rules(place: int, schema: Mapping[str, Any]) -> list[str]:
    """Write rules of the arguments of a tool, in the schema's order.

    Raises:
        CannotHoldError: If they cannot be said.
    """
    properties, required = plain_properties(schema)
    if not all(_NAME.match(key) for key in properties):
        raise CannotHoldError
    parts = []
    for key, inner in properties.items():
        value = json.dumps(dict(inner) | definitions(schema))
        parts.append((f"{literal(key + '=')} %json {value}", key in required))
    return sequence_rules(f"call_{place}", parts, literal(", "))


def _nodes(text: str) -> list[tuple[ast.expr, str]]:
    source = text.strip()
    if len(source) > MOST_CHARS or _depth(source) > MOST_NESTED:
        raise MalformedCallError("the calls are too long, or nested too deeply")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of escapes that Python does not know
            body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise MalformedCallError(f"no calls as Python has them: {error}") from None
    nodes: list[tuple[ast.expr, str]] = []
    for statement in body:
        if not isinstance(statement, ast.Expr):
            raise MalformedCallError("a statement that is no call")
        listed = isinstance(statement.value, ast.List | ast.Tuple)
        found = statement.value.elts if listed else [statement.value]  # type: ignore[attr-defined]
        nodes += [(node, source) for node in found]
    if not nodes:
        raise MalformedCallError("an empty list of calls")
    return nodes


def _depth(source: str) -> int:
    """How deep brackets are nested at most, those in texts counted too."""
    depth = deepest = 0
    for character in source:
        if character in _OPENERS:
            depth += 1
            deepest = max(deepest, depth)
        elif character in _CLOSERS:
            depth -= 1
    return deepest


def _call(node: ast.expr, source: str) -> Call:
    if not isinstance(node, ast.Call) or node.args:
        raise MalformedCallError("a list of what are no calls with named arguments")
    name = _dotted(node.func)
    if not _NAME.match(name):
        raise MalformedCallError("a call of what is no name")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise MalformedCallError("arguments without names")
        arguments[keyword.arg] = _value(keyword.value, source)
    try:
        return Call(name, write_json(arguments))
    except ValueError as error:  # a whole number of too many digits
        raise MalformedCallError(str(error)) from None


def _dotted(node: ast.expr) -> str:
    """Give `a.b.c`, however long, or nothing if it is none."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def _value(node: ast.expr, source: str) -> Any:
    match node:
        case ast.Constant(value=str() as value):
            return _text(node, value, source)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, source) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_key(k, source): _value(v, source) for k, v in zip(keys, values, strict=True)}
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return _finite(-value)
        case ast.Constant(value=bool() | int() | float() | None as value):
            return _finite(value)
    raise MalformedCallError("an argument that is no plain value")


def _finite(value: float | None) -> float | None:
    if isinstance(value, float) and not math.isfinite(value):
        raise MalformedCallError("a number that is too large")
    return value


def _key(node: ast.expr | None, source: str) -> str:
    value = None if node is None else _value(node, source)
    if not isinstance(value, str):
        raise MalformedCallError("an object with keys that are no texts")
    return value


def _text(node: ast.Constant, value: str, source: str) -> str:
    """Read a text in double quotes as JSON if it is that, whose escapes differ a little."""
    if "\\" in source and source.isascii():
        segment = ast.get_source_segment(source, node) or ""
        if segment.startswith('"') and not segment.startswith('"""'):
            try:
                found = read_json(segment)
            except MalformedCallError:
                return value
            return found if isinstance(found, str) else value
    return value


class _ListScanner(Scanner):
    """Finds the end of a list that begins with a call; brackets in texts do not count."""

    def __init__(self) -> None:
        self._text = ""
        self._at = self._depth = 0
        self._quote = ""

    def feed(self, text: str) -> int | None:
        """Read on; see `Scanner.feed`."""
        before = len(self._text)
        self._text += text
        if not _might_be_calls(self._text.lstrip()):
            raise NotACallError
        while self._at < len(self._text):
            character = self._text[self._at]
            if self._quote and character == "\\":
                self._at += 2
                continue
            self._at += 1
            if self._quote:
                self._quote = "" if character == self._quote else self._quote
            elif character in "\"'":
                self._quote = character
            elif character in _OPENERS:
                self._depth += 1
            elif character in _CLOSERS:
                self._depth -= 1
                if not self._depth:
                    return self._at - before
        return None


def _might_be_calls(text: str) -> bool:
    met = _BARE_START.match(text)
    return met is not None and (met["open"] is not None or met.end() == len(text))
