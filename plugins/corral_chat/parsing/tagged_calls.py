"""Calls whose arguments stand between tags as bare text: XML of a kind, by Qwen, GLM, MiniMax."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from corral_chat.parsing.forms import Call, CallForm, MalformedCallError, Tools
from corral_chat.parsing.json_calls import JsonCalls, literal
from corral_chat.parsing.json_text import read_json, write_json
from corral_chat.parsing.rules import plain_properties
from corral_chat.parsing.typed import CannotHoldError, typed_value, types_of, value_rule


@dataclass(frozen=True, slots=True)
class TaggedCalls(CallForm):
    """`<function=f>⏎<parameter=a>⏎1⏎</parameter>⏎</function>`; values are typed by the schema.

    Attributes:
        open: Before the name; empty: nothing.
        named: Behind it; empty: the first argument, or the end.
        key: Before the name of an argument.
        valued: Between that and its value; white space in the midst of two tags does not count.
        close: Behind a value.
        end: Behind the last argument; empty: nothing.
        pad: What stands around a value; one of it is no part of that.
        gap: What a plan writes between the tags.
        written: Behind the name, when a plan writes it, if that is more than `named`.
        kinds: Instead of `valued`: what says of a value that it is text as it stands (of the type
            `string`), or JSON of one of some types.
        completes: A call that breaks off is read as if it ended there.
        json_too: A JSON object is read as well.
        aliases: Names that models write for tools of another name, where those are declared.
        marks: As `CallForm` has it.
    """

    open: str = "<function="
    named: str = ">"
    key: str = "<parameter="
    valued: tuple[str, ...] = (">",)
    close: str = "</parameter>"
    end: str = "</function>"
    pad: str = "\n"
    gap: str = "\n"
    written: str = ""
    kinds: tuple[tuple[str, frozenset[str]], ...] = ()
    completes: bool = False
    json_too: bool = False
    aliases: tuple[tuple[str, str], ...] = ()
    marks: tuple[str, ...] = ()

    def parse(self, text: str, tools: Tools) -> Sequence[Call]:
        """Read all calls of a text.

        Raises:
            MalformedCallError: If one of them is none.
        """
        if self.json_too and text.lstrip().startswith("{"):
            return [self._aliased(call, tools) for call in JsonCalls().parse(text, tools)]
        reader = _Reader(self, text)
        calls = [self._call(reader, tools)]
        while self.open and not reader.is_over:
            calls.append(self._call(reader, tools))
        return calls

    def _call(self, reader: _Reader, tools: Tools) -> Call:
        name = self._alias(reader.name(), tools)
        arguments: dict[str, Any] = {}
        while (found := reader.argument()) is not None:
            key, value, types = found
            arguments[key] = _value(value, types, tools.property(name, key))
        reader.close()
        return Call(name, write_json(arguments))

    def _aliased(self, call: Call, tools: Tools) -> Call:
        return Call(self._alias(call.name, tools), call.arguments)

    def _alias(self, name: str, tools: Tools) -> str:
        other = dict(self.aliases).get(name)
        return other if other is not None and name not in tools and other in tools else name

    def grammar(self, tools: Tools, *, begun: bool = False) -> str | None:
        """Write the grammar: a branch for each tool, its arguments in the schema's order."""
        del begun  # such calls have marks
        rules: list[str] = []
        try:
            names = [self._branch(place, name, tools, rules) for place, name in enumerate(tools)]
        except CannotHoldError:
            return None
        return "\n".join([f"start: {' | '.join(names)}", *rules])

    def _branch(self, place: int, name: str, tools: Tools, rules: list[str]) -> str:
        schema = tools.schema(name)
        properties, required = plain_properties(schema)
        parts = [literal(self.open + name + (self.written or self.named) + self.gap)]
        for number, (key, inner) in enumerate(properties.items()):
            rule = f"call_{place}_{number}"
            between, held = self._kind(inner) if self.kinds else (self.gap.join(self.valued), inner)
            before = literal(self.key + key + between + self.pad)
            rules.append(f"{rule}: {before} {rule}_value")
            rules.append(value_rule(f"{rule}_value", held, self.pad + self.close, schema))
            after = f" {literal(self.gap)}" if self.gap else ""
            wanted = key in required
            parts.append(f"{rule}{after}" if wanted else f"({rule}{after})?")
        if self.end:
            parts.append(literal(self.end))
        rules.append(f"call_{place}: {' '.join(parts)}")
        return f"call_{place}"

    def _kind(self, schema: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Choose what a plan writes before a value of a schema, and what that is held to then."""
        types = types_of(schema) or {"string"}
        if len(types) > 1 and "string" in types:
            types, schema = {"string"}, {"type": "string"}
        values = schema.get("enum", [schema.get("const")] if "const" in schema else [])
        if any(isinstance(value, str) != ("string" in types) for value in values):
            raise CannotHoldError
        for text, of in self.kinds:
            if types <= of:
                return text, schema
        raise CannotHoldError


def _value(text: str, types: frozenset[str], schema: Mapping[str, Any]) -> Any:
    if "string" in types:
        return text
    if types:
        with suppress(MalformedCallError):
            return read_json(text)
    return typed_value(text, schema)


def invokes(mark: str = "", kinds: tuple[tuple[str, frozenset[str]], ...] = ()) -> TaggedCalls:
    """Give the form of `<invoke name="f"><parameter name="a">1</parameter></invoke>`.

    Args:
        mark: Stands at the beginning of the name of each tag.
        kinds: As `TaggedCalls` has it.
    """
    return TaggedCalls(
        open=f'<{mark}invoke name="',
        named='">',
        key=f'<{mark}parameter name="',
        valued=('">',),
        close=f"</{mark}parameter>",
        end=f"</{mark}invoke>",
        pad="",
        kinds=kinds,
    )


class _Reader:
    """Reads the text of calls from front to back."""

    def __init__(self, form: TaggedCalls, text: str) -> None:
        self._form, self._text, self._at = form, text, 0
        behind = [re.escape(tag) for tag in (form.key, form.end) if tag]
        self._closing = re.compile(rf"{re.escape(form.close)}(?=\s*(?:{'|'.join(behind)}|\Z))")
        self._kinds = dict(form.kinds)
        plain = r"\s*".join(map(re.escape, form.valued))
        self._between = re.compile("|".join([*map(re.escape, self._kinds), plain]))

    @property
    def is_over(self) -> bool:
        return not self._text[self._at :].strip()

    def name(self) -> str:
        form = self._form
        if form.open and not self._take(form.open):
            raise MalformedCallError(f"{form.open!r} is missing before {self._shown()}")
        name = self._up_to(form.named) if form.named else self._up_to_first(form.key, form.end)
        if not name.strip():
            raise MalformedCallError("empty function name")
        return name.strip().strip('"').partition('"')[0]

    def argument(self) -> tuple[str, str, frozenset[str]] | None:
        """Read the next argument, and of which types it says it is; None: there is none."""
        form = self._form
        if not self._take(form.key):
            return None
        met = self._between.search(self._text, self._at)
        if met is None:
            raise MalformedCallError(f"{form.valued[0]!r} is missing before {self._shown()}")
        key = self._text[self._at : met.start()].strip()
        closed = self._closing.search(self._text, met.end())
        if closed is None and not form.completes:
            raise MalformedCallError(f"{form.close!r} is missing behind argument {key!r}")
        stop = closed.start() if closed else len(self._text)
        self._at = closed.end() if closed else len(self._text)
        value = self._text[met.end() : stop]
        types = self._kinds.get(met.group(), frozenset())
        return key, value.removeprefix(form.pad).removesuffix(form.pad), types

    def close(self) -> None:
        form = self._form
        if form.end and not self._take(form.end) and not form.completes:
            raise MalformedCallError(f"{form.end!r} is missing before {self._shown()}")
        if not form.end and not self.is_over:
            raise MalformedCallError(f"{self._shown()} is no argument")

    def _take(self, tag: str) -> bool:
        at = self._at
        while at < len(self._text) and self._text[at].isspace():
            at += 1
        if not self._text.startswith(tag, at):
            return False
        self._at = at + len(tag)
        return True

    def _up_to(self, tag: str) -> str:
        at = self._text.find(tag, self._at)
        if at < 0:
            raise MalformedCallError(f"{tag!r} is missing behind {self._shown()}")
        found, self._at = self._text[self._at : at], at + len(tag)
        return found

    def _up_to_first(self, *tags: str) -> str:
        places = [at for tag in tags if tag and (at := self._text.find(tag, self._at)) >= 0]
        stop = min(places, default=len(self._text))
        found, self._at = self._text[self._at : stop], stop
        return found

    def _shown(self) -> str:
        return json.dumps(self._text[self._at : self._at + 40], ensure_ascii=False)
