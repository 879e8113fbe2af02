"""JSON Schema's keywords: which are not enforced, and what values the others take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from corral_kernel.errors import InvalidFormatError

MAX_ALTERNATIVES = 2_000
"""Of one list: enum, anyOf, oneOf, allOf, prefixItems."""

Node = dict[str, Any]

TYPES = frozenset(
    [
        "array",
        "boolean",
        "integer",
        "null",
        "number",
        "object",
        "string",
    ]
)

# llguidance does not implement these; of the last, earlier drafts' and other dialects', it does not
# even say so.
NOT_ENFORCED = frozenset(
    [
        "$dynamicRef",
        "$recursiveRef",
        "contains",
        "dependencies",
        "dependentSchemas",
        "else",
        "if",
        "maxContains",
        "minContains",
        "not",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "disallow",
        "divisibleBy",
        "extends",
        "formatExclusiveMaximum",
        "formatExclusiveMinimum",
        "formatMaximum",
        "formatMinimum",
    ]
)


def refuse(pointer: str, why: str) -> NoReturn:
    """Raise an error that names its place.

    Raises:
        InvalidFormatError: Always.
    """
    raise InvalidFormatError(f"format at {pointer}: {why}")


def kind_of(value: Any) -> str:
    """Name a JSON value's type."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")


def escape(name: str) -> str:
    """Write a key as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def want(pointer: str, node: Node, key: str, kind: type) -> None:
    """Make sure that a keyword's value is of a type.

    Raises:
        InvalidFormatError: If it is not.
    """
    if not isinstance(node[key], kind):
        refuse(f"{pointer}/{key}", f"it is {kind_of(node[key])}, wanted {kind_of(kind())}")


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_type(value: Any) -> bool:
    return value in TYPES if isinstance(value, str) else _is_texts(value) and {*value} <= TYPES


_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"one or more of {', '.join(sorted(TYPES))}"),
    "required": (_is_texts, "an array of strings"),
    "enum": (
        lambda v: isinstance(v, list) and 0 < len(v) <= MAX_ALTERNATIVES,
        f"an array of 1 to {MAX_ALTERNATIVES:,} values",
    ),
    "dependentRequired": (
        lambda v: isinstance(v, dict) and all(map(_is_texts, v.values())),
        "an object of arrays of strings",
    ),
    "pattern": (lambda v: isinstance(v, str), "a string"),
    "format": (lambda v: isinstance(v, str), "a string"),
    "multipleOf": (lambda v: is_number(v) and v > 0, "a number above 0"),
    "$ref": (
        lambda v: isinstance(v, str) and v.startswith("#"),
        "a reference within the schema, such as #/$defs/name",
    ),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), (is_number, "a number")
    ),
    **{
        f"{bound}{what}": (_is_count, "a whole number from 0 on")
        for bound in ("min", "max")
        for what in ("Length", "Items", "Properties")
    },
}


def check_values(pointer: str, node: Node) -> None:
    """Check the keywords of one subschema.

    Raises:
        InvalidFormatError: For one that is not enforced, or whose value it cannot have.
    """
    for key, value in node.items():
        if key in NOT_ENFORCED:
            refuse(f"{pointer}/{key}", f"{key} cannot be enforced; take it out")
        if key in _VALUES and not _VALUES[key][0](value):
            refuse(f"{pointer}/{key}", f"wanted {_VALUES[key][1]}")
    if "x-guidance" in node:
        refuse(f"{pointer}/x-guidance", "how a schema is compiled is not for requests to say")
