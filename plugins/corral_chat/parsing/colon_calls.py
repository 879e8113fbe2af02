"""Calls of Gemma: `call:get_weather{city:<|"|>Oslo<|"|>,days:3}`, objects without quotes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from corral_chat.parsing.forms import Call, CallForm, MalformedCallError, Tools
from corral_chat.parsing.json_calls import literal
from corral_chat.parsing.json_text import write_json
from corral_chat.parsing.rules import plain_properties, sequence_rules
from corral_chat.parsing.typed import CannotHoldError, types_of

_DEEPEST: Final = 64
_BARE: Final = re.compile(r"[^,:{}\[\]]*")
_KEY: Final = re.compile(r"\s*([^\s,:{}\[\]]+?)\s*:\s*")
_PLAIN_KEY: Final = re.compile(r"[\w.\-]+\Z", re.ASCII)
_WORDS: Final = {"true": True, "false": False, "null": None, "None": None}
_INTEGER: Final = re.compile(r"-?\d{1,4000}\Z", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class ColonCalls(CallForm):
    """A name behind `call:`, and an object whose texts stand between marks of their own.

    Attributes:
        quote: That mark.
        marks: As `CallForm` has it.
    """

    quote: str = '<|"|>'
    marks: tuple[str, ...] = ('<|"|>',)

    def parse(self, text: str, tools: Tools) -> Sequence[Call]:
        """Read one call.

        Raises:
            MalformedCallError: If it is none.
        """
        del tools
        name, brace, _ = text.partition("{")
        head, colon, rest = name.partition(":")
        if not brace or head.strip() != "call" or not colon or not rest.strip():
            raise MalformedCallError("no name behind call:")
        reader = _Reader(text, len(name), self.quote)
        value = reader.value(0)
        if not isinstance(value, dict) or not reader.is_over:
            raise MalformedCallError(f"the arguments of {rest.strip()!r} are no object")
        return [Call(rest.strip(), write_json(value))]

    def grammar(self, tools: Tools, *, begun: bool = False) -> str | None:
        """Write the grammar: a branch for each tool, its arguments in the schema's order."""
        del begun  # such calls have marks
        writer = _Writer(self.quote)
        try:
            names = []
            for name in tools:
                rule = writer.value(tools.schema(name), 0)
                names.append(f"{literal(f'call:{name}')} {rule}")
        except CannotHoldError:
            return None
        return "\n".join([f"start: {' | '.join(names)}", *writer.rules])


class _Reader:
    """Reads an object that has no quotes."""

    def __init__(self, text: str, at: int, quote: str) -> None:
        self._text, self._at, self._quote = text, at, quote

    @property
    def is_over(self) -> bool:
        return not self._text[self._at :].strip()

    def value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise MalformedCallError("arguments that are nested too deeply")
        self._skip()
        if self._take(self._quote):
            end = self._text.find(self._quote, self._at)
            if end < 0:
                raise MalformedCallError("a text without an end")
            found, self._at = self._text[self._at : end], end + len(self._quote)
            return found
        if self._take("{"):
            return self._object(depth)
        if self._take("["):
            return self._list(depth)
        met = _BARE.match(self._text, self._at)
        assert met is not None, "it matches nothing, too"
        self._at = met.end()
        return _bare(met.group().strip())

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._ends("}"):
            key = self._key()
            found[key] = self.value(depth + 1)
        return found

    def _key(self) -> str:
        self._skip()
        if self._text.startswith(self._quote, self._at):
            key = self.value(0)
            self._skip()
            if not isinstance(key, str) or not self._take(":"):
                raise MalformedCallError("an argument without a name")
            return key
        met = _KEY.match(self._text, self._at)
        if met is None:
            raise MalformedCallError("an argument without a name")
        self._at = met.end()
        return met.group(1).strip('"')

    def _list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while not self._ends("]"):
            found.append(self.value(depth + 1))
        return found

    def _ends(self, closer: str) -> bool:
        """Whether a closing bracket follows; a comma before the next item is passed over."""
        self._skip()
        if self._take(closer):
            return True
        self._take(",")
        self._skip()
        if self._at >= len(self._text):
            raise MalformedCallError(f"{closer!r} is missing")
        return self._take(closer)

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _take(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True


def _bare(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _NUMBER.match(text):
        value = float(text)
        return value if value - value == 0 else text
    if not text:
        raise MalformedCallError("an argument without a value")
    return text.strip('"')


class _Writer:
    """Writes rules for the values of a schema."""

    def __init__(self, quote: str) -> None:
        self._quote = quote
        self.rules: list[str] = []

    def value(self, schema: Mapping[str, Any], depth: int) -> str:
        """Write the rule of a value; give its name.

        Raises:
            CannotHoldError: If it cannot be said.
        """
        name = f"value_{len(self.rules)}"
        self.rules.append("")  # its place
        place = len(self.rules) - 1
        self.rules[place] = f"{name}{self._rule(schema, depth)}"
        return name

    def _rule(self, schema: Mapping[str, Any], depth: int) -> str:
        types = types_of(schema)
        if depth > _DEEPEST or schema.keys() & {"$ref", "allOf", "not", "if", "anyOf", "oneOf"}:
            raise CannotHoldError
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            if not isinstance(values, list) or not values:
                raise CannotHoldError
            return f": {' | '.join(literal(self._written(value)) for value in values)}"
        if types <= {"boolean", "integer", "number", "null"} and types:
            return f": %json {json.dumps(dict(schema))}"
        if types == {"string"} and not schema.keys() & {"pattern"}:
            return self._text_rule(schema)
        if types == {"array"} and isinstance(schema.get("items"), Mapping):
            return self._list_rule(schema, depth)
        if types == {"object"}:
            return self._object_rule(schema, depth)
        raise CannotHoldError

    def _written(self, value: Any) -> str:
        if isinstance(value, str):
            return f"{self._quote}{value}{self._quote}"
        if isinstance(value, bool | int | float) or value is None:
            return json.dumps(value)
        raise CannotHoldError

    def _text_rule(self, schema: Mapping[str, Any]) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", "")
        bounds = f"{{{least},{most}}}" if least or most != "" else "*"
        inner = f"text_{len(self.rules)}"
        self.rules.append(f"{inner}[suffix={literal(self._quote)}]: /(?s:.{bounds})/")
        return f": {literal(self._quote)} {inner}"

    def _list_rule(self, schema: Mapping[str, Any], depth: int) -> str:
        if schema.keys() & {"prefixItems", "contains", "uniqueItems"}:
            raise CannotHoldError
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if not isinstance(least, int) or not (most is None or isinstance(most, int)):
            raise CannotHoldError
        item = self.value(schema["items"], depth + 1)
        if most == 0:
            return ': "[]"'
        more = f'("," {item}){{{max(0, least - 1)},{"" if most is None else most - 1}}}'
        filled = f'"[" {item} {more} "]"'
        return f": {filled}" if least else f': "[]" | {filled}'

    def _object_rule(self, schema: Mapping[str, Any], depth: int) -> str:
        properties, required = plain_properties(schema)
        if not all(_PLAIN_KEY.match(key) for key in properties):
            raise CannotHoldError
        parts = [
            (f"{literal(f'{key}:')} {self.value(inner, depth + 1)}", key in required)
            for key, inner in properties.items()
        ]
        base = f"object_{len(self.rules)}"
        self.rules += sequence_rules(base, parts, literal(","))
        return f': "{{" {base}_from_0 "}}"'
