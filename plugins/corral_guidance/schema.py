"""What of JSON Schema can be enforced: the structural check, and the form that is compiled."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from corral_guidance.exactness import exact_numbers
from corral_guidance.keywords import Node, check_values, kind_of, refuse
from corral_guidance.rewriting import (
    bounded_properties,
    drop_remarks,
    either,
    named_properties,
    plain_texts,
    without_dependents,
)
from corral_guidance.text_formats import ANCHORED
from corral_guidance.walking import check_depth, walk

MAX_SCHEMA_BYTES = 128 * 1024
SMALL_BYTES = 8 * 1024

_COMBINING = ("anyOf", "oneOf", "allOf", "$ref")
_OF_OBJECTS = ("properties", "patternProperties", "additionalProperties", "required")
_COSTLY = ("allOf", "multipleOf", "pattern", "patternProperties")
_OWN_PATTERNS = frozenset(ANCHORED.values())


def checked(spec: Any) -> Node:
    """Check a schema and give the form of it that is compiled; the spec is left as it is.

    What that form allows is allowed by the spec; it may allow less. Objects that list their
    properties get no others, unless the schema says something of them or combines object schemas.

    Raises:
        InvalidFormatError: What is wrong, with a JSON pointer to where.
    """
    return checked_nodes(spec)[0][1]


def checked_nodes(spec: Any) -> list[tuple[str, Node]]:
    """Check a schema as `checked` does.

    Returns:
        The subschemas of the form that is compiled, itself first, each with the JSON pointer that
        it has in the spec.

    Raises:
        InvalidFormatError: What is wrong, with a JSON pointer to where.
    """
    if not isinstance(spec, dict):
        refuse("#", f"a JSON Schema is an object, not {kind_of(spec)}")
    check_depth(spec)
    size_bytes = _size(spec)
    if size_bytes > MAX_SCHEMA_BYTES:
        refuse("#", f"the schema has {size_bytes:,} bytes: at most {MAX_SCHEMA_BYTES:,} are taken")
    root = copy.deepcopy(spec)
    nodes = list(walk(root))
    for pointer, node in nodes:
        drop_remarks(pointer, node)
        check_values(pointer, node)
        exact_numbers(pointer, node)
        named_properties(pointer, node)
        bounded_properties(pointer, node)
    open_root = copy.deepcopy(root)  # `oneOf` asks what the spec allows, not what is left of it
    if not any(_combines(node) for _, node in nodes):
        for _, node in nodes:
            _close(node)
    either(nodes, root, open_root)
    for pointer, node in nodes:
        plain_texts(pointer, node)
        without_dependents(pointer, node)
    return nodes


def is_small(schema: Node) -> bool:
    """Whether a checked schema compiles so quickly that it need not be tried first.

    Measured: schemas of up to 8 KiB without the keywords below take at most 15 ms and 5 MB. Those
    keywords make regular expressions and intersections, whose size nothing here tells.
    """
    if _size(schema) > SMALL_BYTES:
        return False
    return not any(_is_costly(node) for _, node in walk(schema))


def _is_costly(node: Node) -> bool:
    own = node.get("pattern") in _OWN_PATTERNS
    return _combines(node) or any(key in node for key in _COSTLY if not (own and key == "pattern"))


def _size(spec: Node) -> int:
    try:
        return len(msgspec.json.encode(spec))
    except (TypeError, ValueError) as error:
        refuse("#", f"it is no JSON: {error}")


def _combines(node: Node) -> bool:
    """Whether object schemas are joined to one, so that none of them names all properties."""
    combined = [key for key in _COMBINING if key in node]
    return (
        len(node.get("allOf", ())) > 1
        or len(combined) > 1
        or "dependentRequired" in node
        or (bool(combined) and any(key in node for key in _OF_OBJECTS))
    )


def _close(node: Node) -> None:
    properties = node.get("properties", {})
    said = any(key in node for key in ("additionalProperties", "patternProperties"))
    if properties and not said and {*node.get("required", ())} <= {*properties}:
        node["additionalProperties"] = False
