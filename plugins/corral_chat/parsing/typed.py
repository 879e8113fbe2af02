"""Arguments that models write as bare text: what they are by the schema of their tool."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from corral_chat.parsing.forms import MalformedCallError
from corral_chat.parsing.json_text import read_json

_INTEGER: Final = re.compile(r"[+-]?\d{1,4000}\Z", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}
_DEEPEST: Final = 8


def types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types that a schema names, itself or in a choice; none: it names none."""
    return frozenset(_types(schema, 0))


def _types(schema: Mapping[str, Any], depth: int) -> set[str]:
    named = schema.get("type")
    found = {named} if isinstance(named, str) else set()
    if isinstance(named, list):
        found = {name for name in named if isinstance(name, str)}
    for key in ("anyOf", "oneOf"):
        choices = schema.get(key)
        if isinstance(choices, list) and depth < _DEEPEST:
            for choice in choices:
                if isinstance(choice, Mapping):
                    found |= _types(choice, depth + 1)
    return found


def typed_value(text: str, schema: Mapping[str, Any]) -> Any:
    """Read a bare text as the first of the types of its schema that it can be.

    A schema without a type, or a text that is none of these, is a text.
    """
    types = types_of(schema)
    if text.lower() == "null":
        return None
    if "boolean" in types:
        found = _BOOLEANS.get(text.lower())
        if found is not None or types == {"boolean"}:
            return bool(found)
    if "integer" in types and _INTEGER.match(text):
        return int(text)
    if "number" in types and _NUMBER.match(text):
        return _number(text)
    value = _json(text) if types & {"array", "object"} else text
    is_list = "array" in types and isinstance(value, list)
    is_object = "object" in types and isinstance(value, dict)
    return value if is_list or is_object else text


def _number(text: str) -> Any:
    if _INTEGER.match(text):
        return int(text)
    value = float(text)
    if value in (float("inf"), float("-inf")):
        return text
    return int(value) if value.is_integer() else value


def _json(text: str) -> Any:
    try:
        return read_json(text)
    except MalformedCallError:
        return None


class CannotHoldError(Exception):
    """No grammar of bare text says what a schema does."""


_MARK_FREE: Final = frozenset({"string"})
_ANCHORED: Final = re.compile(r"(?<!\\)[\^$]|\(\?|\\[bBAZz]|\\[1-9]")
_BY_TYPE: Final = ("boolean", "integer", "number", "array", "object", "null")


def value_rule(name: str, schema: Mapping[str, Any], end: str, root: Mapping[str, Any]) -> str:
    """Write a Lark rule of the bare texts that a schema allows, up to a mark and with it.

    Args:
        name: Of the rule.
        schema: Of the value.
        end: The mark.
        root: The schema of the whole call, whose `$defs` it may refer to.

    Raises:
        CannotHoldError: If it cannot be said.
    """
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        if not isinstance(values, list) or not values:
            raise CannotHoldError
        texts = " | ".join(_quoted(bare_text(value)) for value in values)
        return f"{name}: ({texts}) {_quoted(end)}"
    types = types_of(schema)
    if types and "string" not in types and types <= set(_BY_TYPE):
        return f"{name}: %json {json.dumps(_with_defs(schema, root))} {_quoted(end)}"
    if types and types != _MARK_FREE:
        return f"{name}[suffix={_quoted(end)}]: /(?s:.*)/"
    if not types and schema.keys() & {"$ref", "allOf", "not", "if", "anyOf", "oneOf"}:
        raise CannotHoldError
    return f"{name}[suffix={_quoted(end)}]: {_text_pattern(schema)}"


def bare_text(value: Any) -> str:
    """Write a value as bare text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text_pattern(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength", "")
    bounds = f"{{{least},{most}}}" if least or most != "" else "*"
    pattern = f"/(?s:.{bounds})/"
    wanted = schema.get("pattern")
    if wanted is None:
        return pattern
    if not isinstance(wanted, str):
        raise CannotHoldError
    start, stop = wanted.startswith("^"), wanted.endswith("$") and not wanted.endswith("\\$")
    inner = wanted[start : len(wanted) - stop]
    if _ANCHORED.search(inner) or "\n" in inner:
        raise CannotHoldError
    inner = re.sub(r"(?<!\\)/", r"\\/", inner)
    before, after = ("" if start else "(?s:.*)"), ("" if stop else "(?s:.*)")
    return f"{pattern} & /{before}({inner}){after}/"


def _with_defs(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    return dict(schema) | {key: root[key] for key in ("$defs", "definitions") if key in root}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
