"""Where in a schema lies what the compiler complains of: it tells of patterns, not of places."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from itertools import chain, islice
from urllib.parse import unquote

from corral_guidance.keywords import Node
from corral_guidance.walking import resolve, walk
from corral_kernel.errors import InvalidFormatError

_DISJOINT = re.compile(r"patternProperty regexes /(.*)/ and /(.*)/ are not disjoint", re.DOTALL)
_CIRCULAR = re.compile(r"circular references with sibling keys .*: json-schema:///(#\S*)")
_ANCHOR = re.compile(r"Anchor '(.*)' does not exist")
_WITHIN = re.compile(r"while processing json-schema:///(#\S*)")
_COUNTED = "min/maxProperties only supported"
# Beside `$ref` these change nothing; what else stands there is joined with what it leads to.
_REMARKS = frozenset(
    ("$ref", "$defs", "definitions", "$schema", "$id", "id", "$anchor", "$comment", "title",
     "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
)  # fmt: skip


def place(why: str, spec: Node, nodes: list[tuple[str, Node]]) -> str:
    """Give the JSON pointer to what an error of the compiler is about.

    Args:
        why: The compiler's words.
        spec: The schema as it was given.
        nodes: Its subschemas as they were compiled, by the pointers that they have in `spec`.

    Returns:
        `#` where that cannot be told, as of schemas that nothing satisfies.
    """
    given = dict(walk(spec))
    found = chain(_of_patterns(why, nodes), _of_references(why, spec), _of_counts(why, nodes))
    for pointer, key in islice(found, 1):
        # Where that keyword stands for another one: its subschema.
        return f"{pointer}/{key}" if key in given.get(pointer, ()) else pointer
    if within := _WITHIN.search(why):
        with contextlib.suppress(InvalidFormatError):  # where it was said by other keywords
            resolve(spec, within[1], "#")
            return unquote(within[1])
    return "#"


def _of_patterns(why: str, nodes: list[tuple[str, Node]]) -> Iterator[tuple[str, str]]:
    if found := _DISJOINT.search(why):
        overlapping = {*found.groups()}
        for wanted in (2, 1):  # one each, where schemas were joined
            for pointer, node in nodes:
                if len(overlapping & {*node.get("patternProperties", ())}) >= wanted:
                    yield pointer, "patternProperties"
    if "regex parse error" in why:
        for pointer, node in nodes:
            if f"\n    {node.get('pattern')}\n" in why:
                yield pointer, "pattern"
            if any(f"\n    {name}\n" in why for name in node.get("patternProperties", ())):
                yield pointer, "patternProperties"


def _of_references(why: str, spec: Node) -> Iterator[tuple[str, str]]:
    if found := _ANCHOR.search(why):
        for pointer, node in walk(spec):
            if node.get("$ref") == f"#{found[1]}":
                yield pointer, "$ref"
    if found := _CIRCULAR.search(why):
        target = unquote(found[1])
        joined = [
            (pointer, unquote(node["$ref"]))
            for pointer, node in walk(spec, target)
            if "$ref" in node and {*node} - _REMARKS
        ]
        for pointer, _ in sorted(joined, key=lambda item: item[1] != target):  # else by others
            yield pointer, "$ref"


def _of_counts(why: str, nodes: list[tuple[str, Node]]) -> Iterator[tuple[str, str]]:
    if _COUNTED in why:
        for pointer, node in nodes:
            for key in ("minProperties", "maxProperties"):
                if key in node and {*node.get("properties", ())} - {*node.get("required", ())}:
                    yield pointer, key
