"""JSON as Go's encoding/json writes it."""

from __future__ import annotations

import json
from typing import Any

from corral_chat.bounds import step
from corral_chat.gotemplate.strings import rejoined
from corral_chat.gotemplate.values import INVALID, GoList, GoMap, Struct, is_true
from corral_kernel.store.govalues import go_json

_ESCAPED = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


def to_json(value: Any) -> str:  # noqa: PLR0911 - a way for each kind
    """Write a value as compact JSON; keys of maps are sorted, fields of structs are not."""
    match value:
        case str():
            return json.dumps(rejoined(value), ensure_ascii=False).translate(_ESCAPED)
        case None | bool():
            return json.dumps(value)
        case int():
            return str(int(value))
        case float():
            return go_json(value).decode()
    step()
    if value is INVALID:
        return "null"
    if isinstance(value, Struct):
        return _object(
            (name, value.values[field])
            for field, name, mark in value.kind.json
            if not _is_left_out(value.values[field], mark)
        )
    if value.nil:
        return "null"
    if isinstance(value, GoMap):
        return _object(value.sorted())
    assert isinstance(value, GoList)
    if value.go_type == "api.PropertyType" and len(value.items) == 1:
        return to_json(value.items[0])
    return "[" + ",".join(map(to_json, value.items)) + "]"


def _object(items: Any) -> str:
    return "{" + ",".join(f"{to_json(name)}:{to_json(value)}" for name, value in items) + "}"


def _is_left_out(value: Any, mark: str) -> bool:
    return (mark == "?" and not is_true(value)) or (mark == "~" and value is None)
