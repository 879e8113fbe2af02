"""Calls written as JSON objects, alone or in a list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from corral_chat.parsing.forms import Call, CallForm, MalformedCallError, Scanner, Tools
from corral_chat.parsing.json_text import JsonScanner, read_json, write_json

_NAMES = ("name", "tool_name")
_ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True, slots=True)
class JsonCalls(CallForm):
    """`{"name": "f", "arguments": {…}}`, alone or in a list.

    Read is also what models write instead: `parameters`, `tool_name`, arguments as a text that
    holds JSON, and all of it inside a `function`.

    Attributes:
        before_name: What a plan writes before the name.
        between: What it writes between name and arguments.
        behind: What it writes behind the arguments.
        listed: Calls stand in a list.
        opened: The bracket that begins the list is a part of the mark.
        alone: The list holds one call.
        declared: Only tools of the request can be called; a call of another is text.
        loose: Between mark and object any text may stand; if that is a tool's name, the object is
            its arguments.
        closers: As `CallForm` has it.
    """

    before_name: str = '{"name": "'
    between: str = '", "arguments": '
    behind: str = "}"
    listed: bool = False
    opened: bool = False
    alone: bool = False
    declared: bool = False
    loose: bool = False
    repeats: bool = True
    closers: tuple[str, ...] = ("]",)
    marks: tuple[str, ...] = ()

    @property
    def opening(self) -> str:
        """What a call begins with."""
        return ("[" if self.listed and not self.opened else "") + self.before_name

    def single(self) -> CallForm:
        """Give the form of one call, in its list where it has one."""
        return replace(self, alone=True)

    def head(self, name: str) -> str:
        """Give what stands before the arguments."""
        quoted = json.dumps(name, ensure_ascii=False)[1:-1]
        shown = quoted if self.before_name.endswith('"') else name
        return self.before_name + shown + self.between

    def scanner(self, end: str) -> Scanner:
        """Make what finds the end of the next object."""
        del end
        return JsonScanner(loose=self.loose)

    def parse(self, text: str, tools: Tools) -> Sequence[Call]:
        """Read one object.

        Raises:
            MalformedCallError: If it is no call.
        """
        lead, brace, rest = text.partition("{")
        value = read_json(brace + rest)
        call = _call_of(value, tools)
        if call is None:
            called = [name for name in sorted(tools, key=len, reverse=True) if name in lead]
            if not called:
                raise MalformedCallError("empty function name")
            call = Call(called[0], write_json(value))
        if self.declared and call.name not in tools:
            raise MalformedCallError(f"tool {call.name!r} not found")
        return [call]

    def grammar(self, tools: Tools, *, begun: bool = False) -> str | None:
        """Write the grammar: a branch for each tool."""
        rules = [f"call_{place}: {self._branch(name, tools)}" for place, name in enumerate(tools)]
        names = " | ".join(f"call_{place}" for place in range(len(rules)))
        before = literal(self.before_name) if self.before_name else ""
        start = "call" if begun else f"{literal(self.opening)} call" if self.opening else "call"
        if self.listed:
            start += ' "]"' if self.alone else f' (", " {before} call)* "]"'
        return "\n".join([f"start: {start}", f"call: {names}", *rules])

    def _branch(self, name: str, tools: Tools) -> str:
        head = literal(self.head(name).removeprefix(self.before_name))
        behind = literal(self.behind) if self.behind else ""
        return f"{head} %json {json.dumps(tools.schema(name))} {behind}"


def literal(text: str) -> str:
    """Write a text as a literal of a grammar."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _call_of(value: Any, tools: Tools) -> Call | None:
    if not isinstance(value, Mapping):
        return None
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), None)
    if name:
        return Call(name, _arguments(value, name, tools))
    inner = value.get("function")
    if isinstance(inner, str) and inner:
        return Call(inner, _arguments(value, inner, tools))
    if isinstance(inner, Mapping):
        return _call_of(inner, tools)
    if len(value) == 1 and (only := next(iter(value))) in tools:
        return Call(only, _object(value[only], only))
    return None


def _arguments(value: Mapping[str, Any], name: str, tools: Tools) -> str:
    found = next((value[key] for key in _ARGUMENTS if value.get(key) is not None), None)
    if found is not None:
        return _object(found, name)
    if name in tools and not tools.schema(name).get("required"):
        return "{}"
    raise MalformedCallError(f"the call of {name!r} has no arguments")


def _object(value: Any, name: str) -> str:
    if isinstance(value, str):
        value = read_json(value)
    if not isinstance(value, Mapping):
        raise MalformedCallError(f"the arguments of {name!r} are no object")
    return write_json(value)
