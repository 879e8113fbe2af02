"""Calls written as a name and, behind a mark, the JSON object of the arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from corral_chat.parsing.forms import Call, CallForm, MalformedCallError, Scanner, Tools
from corral_chat.parsing.json_calls import literal
from corral_chat.parsing.json_text import JsonScanner, read_json, write_json


@dataclass(frozen=True, slots=True)
class NamedJson(CallForm):
    """`f[ARGS]{"a": 1}`.

    Attributes:
        before: What stands before the name.
        named: The mark in `before` that the name follows; before it may stand anything.
        between: What stands between name and object.
        behind: What stands behind the object and means nothing.
        numbered: Behind the name stands `:` and the number of the call.
        skipped: A mark behind the name, from which on nothing counts up to `between`.
        declared: Only tools of the request can be called.
        closers: As `CallForm` has it.
        marks: As `CallForm` has it.
    """

    before: str = ""
    named: str = ""
    between: str = ""
    behind: str = ""
    numbered: bool = False
    skipped: str = ""
    declared: bool = False
    closers: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    def head(self, name: str) -> str:
        """Give what stands before the object."""
        number = ":0" if self.numbered else ""
        return self.before + name + number + self.between

    def scanner(self, end: str) -> Scanner:
        """Make what finds the end of the object."""
        del end
        return JsonScanner(loose=True)

    def parse(self, text: str, tools: Tools) -> Sequence[Call]:
        """Read a name and the object behind it.

        Raises:
            MalformedCallError: If there is no such thing.
        """
        lead, brace, rest = text.partition("{")
        name = self._name(lead)
        value = read_json(brace + rest)
        if not isinstance(value, dict):
            raise MalformedCallError(f"the arguments of {name!r} are no object")
        if self.declared and name not in tools:
            raise MalformedCallError(f"tool {name!r} not found")
        return [Call(name, write_json(value))]

    def _name(self, lead: str) -> str:
        name = lead.strip()
        for mark in (self.between.strip(), self.skipped):
            if mark:
                name = name.partition(mark)[0]
        name = name.rpartition(self.named)[2] if self.named else name
        name = name.strip().removeprefix(self.before.strip()).strip()
        if self.numbered:
            name = re.sub(r":\d+\Z", "", name)
        if not name:
            raise MalformedCallError("empty function name")
        return name

    def grammar(self, tools: Tools, *, begun: bool = False) -> str | None:
        """Write the grammar: a branch for each tool."""
        del begun  # such calls have marks
        return f"start: {' | '.join(self._branch(name, tools) for name in tools)}"

    def _branch(self, name: str, tools: Tools) -> str:
        head = literal(self.head(name))
        behind = f" {literal(self.behind)}" if self.behind else ""
        return f"{head} %json {json.dumps(tools.schema(name))}{behind}"
