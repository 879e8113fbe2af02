"""What of JSON Schema can be enforced: the structural check, and the form that is compiled."""

from __future__ import annotations

import copy
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

import msgspec

from corral_kernel.errors import InvalidFormatError

MAX_SCHEMA_BYTES = 128 * 1024
MAX_DEPTH = 100
"""Of arrays and objects within each other; llguidance's own bound is 128."""
MAX_SUBSCHEMAS = 5_000
MAX_ALTERNATIVES = 2_000
"""Of one list: enum, anyOf, oneOf, allOf, prefixItems."""
MAX_PATTERN_CHARS = 1_000
SMALL_BYTES = 8 * 1024

Node = dict[str, Any]

_ONE = ("items", "additionalProperties", "additionalItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_COMBINING = ("anyOf", "oneOf", "allOf", "$ref")
_OF_OBJECTS = ("properties", "patternProperties", "additionalProperties", "required")
_TYPES = frozenset(
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

# llguidance knows these keywords and does not implement them.
_NOT_ENFORCED = frozenset(
    [
        "$dynamicRef",
        "$recursiveRef",
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "maxContains",
        "minContains",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
_FORMATS = frozenset(
    [
        "date",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "time",
        "uri",
        "uuid",
    ]
)
# The other formats that JSON Schema defines; what it does not define is a remark for people.
_FORMATS_NOT_ENFORCED = frozenset(
    [
        "idn-email",
        "idn-hostname",
        "iri",
        "iri-reference",
        "json-pointer",
        "regex",
        "relative-json-pointer",
        "uri-reference",
        "uri-template",
    ]
)
_LOOKAROUND = re.compile(r"\(\?<?[=!]")
_COSTLY = ("allOf", "multipleOf", "pattern", "patternProperties")


def checked(spec: Any) -> Node:
    """Check a schema and give the form of it that is compiled; the spec is left as it is.

    Formats that JSON Schema does not define, and `uniqueItems: false`, demand nothing and are taken
    out. Objects that list their properties get no others, unless the schema says something of them
    or combines object schemas.

    Raises:
        InvalidFormatError: What is wrong, with a JSON pointer to where.
    """
    if not isinstance(spec, dict):
        _refuse("#", f"a JSON Schema is an object, not {_kind(spec)}")
    _check_depth(spec)
    size_bytes = len(msgspec.json.encode(spec))
    if size_bytes > MAX_SCHEMA_BYTES:
        _refuse("#", f"the schema has {size_bytes:,} bytes: at most {MAX_SCHEMA_BYTES:,} are taken")
    root = copy.deepcopy(spec)
    nodes = []
    for pointer, node in _walk(root):
        _check_node(pointer, node)
        nodes.append(node)
    if not any(_combines(node) for node in nodes):
        for node in nodes:
            _close(node)
    return root


def is_small(schema: Node) -> bool:
    """Whether a checked schema compiles so quickly that it need not be tried first.

    Measured: schemas of up to 8 KiB without the keywords below take at most 15 ms and 5 MB. Those
    keywords make regular expressions and intersections, whose size nothing here tells.
    """
    if len(msgspec.json.encode(schema)) > SMALL_BYTES:
        return False
    return not any(key in node for _, node in _walk(schema) for key in _COSTLY)


def _refuse(pointer: str, why: str) -> NoReturn:
    raise InvalidFormatError(f"format at {pointer}: {why}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")


def _check_depth(spec: Any) -> None:
    """Bound the depth of a decoded document, without recursion."""
    level = [spec]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    _refuse("#", f"the schema is nested over {MAX_DEPTH} levels deep")


def _walk(root: Node) -> Iterator[tuple[str, Node]]:
    """Give every subschema that is an object, with its JSON pointer; those referred to as well."""
    queue: deque[tuple[str, Any]] = deque([("#", root)])
    seen: set[str] = set()
    while queue:
        pointer, node = queue.popleft()
        if pointer in seen or isinstance(node, bool):
            continue
        seen.add(pointer)
        if len(seen) > MAX_SUBSCHEMAS:
            _refuse("#", f"the schema has over {MAX_SUBSCHEMAS:,} subschemas")
        if not isinstance(node, dict):
            _refuse(pointer, f"a schema is an object or a boolean, not {_kind(node)}")
        yield pointer, node
        queue.extend(_children(pointer, node))
        if isinstance(reference := node.get("$ref"), str) and reference.startswith("#/"):
            queue.append((reference, _resolve(root, reference, pointer)))


def _children(pointer: str, node: Node) -> Iterator[tuple[str, Any]]:
    for key in _ONE:
        if isinstance(node.get(key), list):
            yield from _indexed(f"{pointer}/{key}", node[key])
        elif key in node:
            yield f"{pointer}/{key}", node[key]
    for key in _NAMED:
        if key in node:
            _want(pointer, node, key, dict)
            for name, child in node[key].items():
                yield f"{pointer}/{key}/{_escape(name)}", child
    for key in _LISTED:
        if key in node:
            _want(pointer, node, key, list)
            yield from _indexed(f"{pointer}/{key}", node[key])


def _indexed(pointer: str, children: list[Any]) -> Iterator[tuple[str, Any]]:
    if len(children) > MAX_ALTERNATIVES:
        _refuse(pointer, f"{len(children):,} alternatives: at most {MAX_ALTERNATIVES:,} are taken")
    for index, child in enumerate(children):
        yield f"{pointer}/{index}", child


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _resolve(root: Node, reference: str, pointer: str) -> Any:
    found: Any = root
    for part in unquote(reference[2:]).split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key in map(str, range(len(found))):
            found = found[int(key)]
        else:
            _refuse(f"{pointer}/$ref", f"there is nothing at {reference}")
    return found


def _want(pointer: str, node: Node, key: str, kind: type) -> None:
    if not isinstance(node[key], kind):
        _refuse(f"{pointer}/{key}", f"it is {_kind(node[key])}, wanted {_kind(kind())}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_type(value: Any) -> bool:
    return value in _TYPES if isinstance(value, str) else _is_texts(value) and {*value} <= _TYPES


_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"one or more of {', '.join(sorted(_TYPES))}"),
    "required": (_is_texts, "an array of strings"),
    "enum": (
        lambda v: isinstance(v, list) and 0 < len(v) <= MAX_ALTERNATIVES,
        f"an array of 1 to {MAX_ALTERNATIVES:,} values",
    ),
    "pattern": (lambda v: isinstance(v, str), "a string"),
    "format": (lambda v: isinstance(v, str), "a string"),
    "multipleOf": (lambda v: _is_number(v) and v > 0, "a number above 0"),
    "$ref": (
        lambda v: isinstance(v, str) and v.startswith("#"),
        "a reference within the schema, such as #/$defs/name",
    ),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), (_is_number, "a number")
    ),
    **{
        f"{bound}{what}": (_is_count, "a whole number from 0 on")
        for bound in ("min", "max")
        for what in ("Length", "Items", "Properties")
    },
}


def _check_node(pointer: str, node: Node) -> None:
    """Check the keywords of one subschema; take out what demands nothing."""
    for key, value in node.items():
        if key in _NOT_ENFORCED:
            _refuse(f"{pointer}/{key}", f"{key} cannot be enforced; take it out")
        if key in _VALUES and not _VALUES[key][0](value):
            _refuse(f"{pointer}/{key}", f"wanted {_VALUES[key][1]}")
    if node.pop("uniqueItems", False) is not False:
        _refuse(f"{pointer}/uniqueItems", "uniqueItems cannot be enforced; take it out")
    if "x-guidance" in node:
        _refuse(f"{pointer}/x-guidance", "how a schema is compiled is not for requests to say")
    if node.get("format") in _FORMATS_NOT_ENFORCED:
        _refuse(f"{pointer}/format", f"the format {node['format']} cannot be enforced")
    if node.get("format") not in _FORMATS:
        node.pop("format", None)
    for pattern, where in _patterns(node):
        _check_pattern(f"{pointer}/{where}", pattern)


def _patterns(node: Node) -> Iterator[tuple[str, str]]:
    if "pattern" in node:
        yield node["pattern"], "pattern"
    if isinstance(named := node.get("patternProperties"), dict):
        for pattern in named:
            yield pattern, f"patternProperties/{_escape(pattern)}"


def _check_pattern(pointer: str, pattern: str) -> None:
    if len(pattern) > MAX_PATTERN_CHARS:
        _refuse(pointer, f"a pattern of {len(pattern):,} characters: at most {MAX_PATTERN_CHARS:,}")
    if _LOOKAROUND.search(pattern):
        _refuse(pointer, "patterns that look ahead or behind cannot be enforced")


def _combines(node: Node) -> bool:
    """Whether object schemas are joined to one, so that none of them names all properties."""
    combined = [key for key in _COMBINING if key in node]
    return (
        len(node.get("allOf", ())) > 1
        or len(combined) > 1
        or (bool(combined) and any(key in node for key in _OF_OBJECTS))
    )


def _close(node: Node) -> None:
    properties = node.get("properties", {})
    said = any(key in node for key in ("additionalProperties", "patternProperties"))
    if properties and not said and {*node.get("required", ())} <= {*properties}:
        node["additionalProperties"] = False
