"""Pieces of Lark grammars that several ways of writing calls share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from corral_chat.parsing.typed import CannotHoldError

_COMBINED: Final = frozenset(
    {"$ref", "anyOf", "allOf", "oneOf", "not", "if", "patternProperties", "minProperties"}
    | {"dependentRequired", "dependentSchemas", "propertyNames"}
)


def plain_properties(schema: Mapping[str, Any]) -> tuple[Mapping[str, Mapping[str, Any]], set[str]]:
    """Give the properties of an object's schema, and which of them are required.

    Raises:
        CannotHoldError: If the schema says more of the object than that.
    """
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if schema.keys() & _COMBINED or not isinstance(properties, Mapping):
        raise CannotHoldError
    if not isinstance(required, list) or any(key not in properties for key in required):
        raise CannotHoldError
    if not all(isinstance(inner, Mapping) for inner in properties.values()):
        raise CannotHoldError
    return properties, set(required)


def definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Give what schemas inside a schema may refer to."""
    return {key: schema[key] for key in ("$defs", "definitions") if key in schema}


def sequence_rules(base: str, parts: Sequence[tuple[str, bool]], separator: str) -> list[str]:
    """Write rules of parts in order, of which some may be left out; `BASE_from_0` is the first.

    Args:
        base: What the names of the rules begin with.
        parts: Each as the right side of a rule, and whether it must be there.
        separator: A literal that stands between two.
    """
    last = len(parts)
    # `rest_N`: those from N on, a separator before each; `from_N`: the first without one.
    rules = [f'{base}_rest_{last}: ""', f'{base}_from_{last}: ""']
    for number, (part, must) in reversed(list(enumerate(parts))):
        rest, first = f"{base}_rest_{number + 1}", f"{base}_from_{number + 1}"
        rules.append(
            f"{base}_rest_{number}: {separator} {part} {rest}" + ("" if must else f" | {rest}")
        )
        rules.append(f"{base}_from_{number}: {part} {rest}" + ("" if must else f" | {first}"))
    return rules
