"""The subschemas of a JSON Schema, and where they stand."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from corral_guidance.keywords import MAX_ALTERNATIVES, Node, escape, kind_of, refuse, want

MAX_DEPTH = 100
"""Of arrays and objects within each other; llguidance's own bound is 128."""
MAX_SUBSCHEMAS = 5_000

_ONE = ("items", "additionalProperties", "additionalItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")


_POINTER = re.compile("#(/|$)")


def check_depth(spec: Any) -> None:
    """Bound the depth of a decoded document, without recursion.

    Raises:
        InvalidFormatError: If it is deeper.
    """
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
    refuse("#", f"the schema is nested over {MAX_DEPTH} levels deep")


def walk(root: Node, begin: str = "#") -> Iterator[tuple[str, Node]]:
    """Give every subschema that is an object, with its JSON pointer; those referred to as well.

    Args:
        root: The document.
        begin: A reference to the subschema to begin at.

    Raises:
        InvalidFormatError: If one is no schema, or a reference leads nowhere.
    """
    queue: deque[tuple[str, Any]] = deque([(begin, resolve(root, begin, "#"))])
    seen: set[str] = set()
    met: set[int] = set()
    while queue:
        pointer, node = queue.popleft()
        if pointer in seen or isinstance(node, bool):
            continue
        seen.add(pointer)
        if len(seen) > MAX_SUBSCHEMAS:
            refuse("#", f"the schema has over {MAX_SUBSCHEMAS:,} subschemas")
        if not isinstance(node, dict):
            refuse(pointer, f"a schema is an object or a boolean, not {kind_of(node)}")
        if id(node) in met:  # by another pointer
            continue
        met.add(id(node))
        yield pointer, node
        queue.extend(_children(pointer, node))
        if isinstance(reference := node.get("$ref"), str) and _POINTER.match(reference):
            queue.append((reference, resolve(root, reference, pointer)))


def resolve(root: Node, reference: str, pointer: str) -> Any:
    """Give what a reference such as `#` or `#/$defs/name` leads to.

    Raises:
        InvalidFormatError: If it leads nowhere; `pointer` is where it stands.
    """
    found: Any = root
    for part in unquote(reference).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key in map(str, range(len(found))):
            found = found[int(key)]
        else:
            refuse(f"{pointer}/$ref", f"there is nothing at {reference}")
    return found


def _children(pointer: str, node: Node) -> Iterator[tuple[str, Any]]:
    for key in _ONE:
        if isinstance(node.get(key), list):
            yield from _indexed(f"{pointer}/{key}", node[key])
        elif key in node:
            yield f"{pointer}/{key}", node[key]
    for key in _NAMED:
        if key in node:
            want(pointer, node, key, dict)
            for name, child in node[key].items():
                yield f"{pointer}/{key}/{escape(name)}", child
    for key in _LISTED:
        if key in node:
            want(pointer, node, key, list)
            yield from _indexed(f"{pointer}/{key}", node[key])


def _indexed(pointer: str, children: list[Any]) -> Iterator[tuple[str, Any]]:
    if len(children) > MAX_ALTERNATIVES:
        refuse(pointer, f"{len(children):,} alternatives: at most {MAX_ALTERNATIVES:,} are taken")
    for index, child in enumerate(children):
        yield f"{pointer}/{index}", child
