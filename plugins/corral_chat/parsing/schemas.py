"""Schemas of tools' arguments as grammars need them: what they enforce, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_CLOSED: Final = frozenset(
    {"additionalProperties", "patternProperties", "$ref", "anyOf", "allOf", "oneOf"}
)
_REMARKS: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "$comment", "readOnly"}
)
_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_INSIDE: Final = frozenset(
    {"items", "prefixItems", "anyOf", "allOf", "oneOf", "additionalProperties", "propertyNames"}
)


def object_schema(given: Any) -> dict[str, Any]:
    """Give the schema of a tool's arguments; one that lists no properties is of no arguments.

    Remarks are left out: descriptions are most of a schema, and grammars are bounded in size.
    """
    schema = _enforced(given) if isinstance(given, Mapping) else {}
    schema.setdefault("type", "object")
    if not schema.get("properties") and not schema.keys() & _CLOSED:
        schema |= {"properties": {}, "additionalProperties": False}
    return schema


def _enforced(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _value(key, value) for key, value in schema.items() if key not in _REMARKS}


def _value(key: str, value: Any) -> Any:
    if key in _BY_NAME and isinstance(value, Mapping):
        return {name: _nested(inner) for name, inner in value.items()}
    return _nested(value) if key in _INSIDE else value


def _nested(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _enforced(value)
    return [_nested(inner) for inner in value] if isinstance(value, list) else value
