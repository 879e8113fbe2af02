"""Tools as Jinja templates see them: with the keys that Ollama gives, and in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Schema = dict[str, Any]

MAX_DEPTH: Final = 50
"""Of properties within properties; what is deeper is left out."""


def tool_fields(tool: Mapping[str, Any]) -> Schema:
    """Give a tool with what a model is told of it."""
    function = _mapping(tool.get("function"))
    parameters = _mapping(function.get("parameters"))
    shown = {
        "type": _text(parameters.get("type")) or "object",
        **_present(parameters, "$defs", "items"),
        **_listed(parameters, "required"),
        "properties": _properties(parameters.get("properties"), MAX_DEPTH),
    }
    return {
        "type": _text(tool.get("type")) or "function",
        "function": {
            "name": _text(function.get("name")),
            "description": _text(function.get("description")),
            "parameters": shown,
        },
    }


def _properties(given: Any, depth: int) -> Schema:
    known = _mapping(given).items()
    return {name: _property(p, depth) for name, p in known if isinstance(p, Mapping)}


def _property(given: Mapping[str, Any], depth: int) -> Schema:
    if depth == 0:
        return {}
    shown: Schema = {}
    if any_of := [one for one in _sequence(given.get("anyOf")) if isinstance(one, Mapping)]:
        shown["anyOf"] = [_property(one, depth - 1) for one in any_of]
    if (kind := _types(given.get("type"))) is not None:
        shown["type"] = kind
    shown |= _present(given, "items")
    if description := _text(given.get("description")):
        shown["description"] = description
    shown |= _listed(given, "enum")
    if isinstance(given.get("properties"), Mapping):
        shown["properties"] = _properties(given["properties"], depth - 1)
    return shown | _listed(given, "required")


def _types(given: Any) -> Any:
    names = [given] if isinstance(given, str) else _sequence(given)
    names = [name for name in names if isinstance(name, str)]
    return (names[0] if len(names) == 1 else names) if names else None


def _present(given: Mapping[str, Any], *keys: str) -> Schema:
    return {key: given[key] for key in keys if given.get(key) is not None}


def _listed(given: Mapping[str, Any], key: str) -> Schema:
    values = list(_sequence(given.get(key)))
    return {key: values} if values else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
