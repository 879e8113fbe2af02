"""Keywords that llguidance lacks, or has otherwise, said by ones that it has.

Each function changes one subschema in place, so that it allows what it allowed, or less.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

from corral_guidance.exclusive import Side, exclude
from corral_guidance.keywords import Node, escape, refuse, want
from corral_guidance.patterns import PatternError, plain_pattern
from corral_guidance.text_formats import ANCHORED, NATIVE, NOT_ENFORCED, STRICTER
from corral_guidance.walking import walk

MAX_BRANCHES = 64
MAX_DEPENDENTS = 4
_REMARKS = ("$schema", "$vocabulary", "$dynamicAnchor", "$recursiveAnchor")
_DECIMAL = "^(?!^[-+.]*$)"
"""Pydantic's patterns of decimal numbers begin so: something else than signs and points follows."""
_COMBINING = ("anyOf", "oneOf", "allOf", "$ref")


def drop_remarks(pointer: str, node: Node) -> None:
    """Take out what demands nothing.

    Raises:
        InvalidFormatError: For an id that changes what references mean.
    """
    for key in _REMARKS:
        node.pop(key, None)
    for key in ("$id", "id"):
        if isinstance(name := node.get(key), str):
            if pointer != "#" and not name.startswith("#") and _has_references(node):
                refuse(
                    f"{pointer}/{key}", "references within a schema of its own id are not followed"
                )
            del node[key]
    if "if" not in node or not {"then", "else"} & {*node}:
        for key in ("if", "then", "else"):
            node.pop(key, None)
    _draft_4(node)
    _draft_7(node)
    _drop_unevaluated(node)
    if "uniqueItems" in node:
        count = node.get("maxItems")
        if node["uniqueItems"] is not False and not (isinstance(count, int) and count <= 1):
            refuse(f"{pointer}/uniqueItems", "uniqueItems cannot be enforced; take it out")
        del node["uniqueItems"]


def _has_references(node: Node) -> bool:
    todo: list[Any] = [node]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if "$ref" in value:
                return True
            todo += value.values()
        elif isinstance(value, list):
            todo += value
    return False


def _draft_4(node: Node) -> None:
    """Give exclusive bounds as numbers, which were booleans once."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(node.get(exclusive), bool):
            if node[exclusive] and bound in node:
                node[exclusive] = node.pop(bound)
            else:
                del node[exclusive]


def _draft_7(node: Node) -> None:
    """Give dependencies that are lists of keys their name of today."""
    dependencies = node.get("dependencies")
    if isinstance(dependencies, dict) and "dependentRequired" not in node:
        lists = all(isinstance(keys, list) for keys in dependencies.values())
        node["dependentRequired" if lists else "dependencies"] = node.pop("dependencies")


def _drop_unevaluated(node: Node) -> None:
    """Where nothing is combined, what is not evaluated is what is additional."""
    alone = not any(key in node for key in _COMBINING)
    for key, instead in (
        ("unevaluatedProperties", "additionalProperties"),
        ("unevaluatedItems", "items"),
    ):
        if node.get(key) is True:
            del node[key]
        elif key in node and alone:
            value = node.pop(key)
            node.setdefault(instead, value)


def named_properties(pointer: str, node: Node) -> None:
    """Say `propertyNames` by `properties` or `patternProperties`.

    Raises:
        InvalidFormatError: Where it cannot be said so.
    """
    if "propertyNames" not in node:
        return
    names = node.pop("propertyNames")
    if names is True or names == {}:
        return
    where = f"{pointer}/propertyNames"
    if "properties" in node or "patternProperties" in node:
        refuse(where, "propertyNames beside listed properties cannot be enforced; take it out")
    others = node.pop("additionalProperties", True)
    if names is False:
        node["additionalProperties"] = False
        return
    if not isinstance(names, dict):
        want(pointer, {"propertyNames": names}, "propertyNames", dict)
    listed = names.get("enum", [names["const"]] if "const" in names else None)
    allowed = {"enum", "const"} if listed is not None else {"pattern", "minLength", "maxLength"}
    unknown = sorted({*names} - allowed - {"type", "title", "description", "$comment"})
    if unknown or names.get("type", "string") != "string":
        refuse(
            where, f"of names, {unknown[0] if unknown else 'type'} cannot be enforced; take it out"
        )
    if isinstance(listed, list):
        node["properties"] = {name: others for name in listed if isinstance(name, str)}
    else:
        node["patternProperties"] = {_pattern_of(where, names): others}
    node["additionalProperties"] = False


def _pattern_of(where: str, names: Node) -> str:
    lengths = [names.get("minLength", 0), names.get("maxLength", "")]
    if "pattern" not in names:
        return f"^[^\\n]{{{lengths[0]},{lengths[1]}}}$"
    if lengths != [0, ""] or not isinstance(names["pattern"], str):
        refuse(where, "a pattern and a length of names cannot both be enforced")
    return names["pattern"]


def bounded_properties(pointer: str, node: Node) -> None:
    """See to it that `minProperties` is counted rightly: keys that are not listed may repeat.

    Raises:
        InvalidFormatError: Where it cannot be.
    """
    least = node.get("minProperties", 0)
    required = {*node.get("required", ())}
    if least <= len(required):
        node.pop("minProperties", None)
    closed = node.get("additionalProperties") is False and not node.get("patternProperties")
    if not closed and least > len(required) + 1:
        refuse(
            f"{pointer}/minProperties",
            "it is over what is required by more than one, which cannot be enforced for properties "
            "that are not listed; take it out",
        )


def either(nodes: list[tuple[str, Node]], root: Node, open_root: Node) -> None:
    """Say `oneOf` by `anyOf`, where its branches exclude each other.

    Args:
        nodes: All subschemas, with their pointers.
        root: Their document.
        open_root: The same before objects were closed: what is written by a branch as it is now
            must satisfy no other one as it was.

    Raises:
        InvalidFormatError: Where they may both hold.
    """
    wanted = [(pointer, node) for pointer, node in nodes if "oneOf" in node]
    if not wanted:
        return
    now, before, was = Side(root), Side(open_root), dict(walk(open_root))
    for pointer, node in wanted:
        branches, others = node["oneOf"], was[pointer]["oneOf"]
        if len(branches) > MAX_BRANCHES:
            refuse(
                f"{pointer}/oneOf", f"{len(branches)} branches: at most {MAX_BRANCHES}; say anyOf"
            )
        beside, beside_then = _without(node), _without(was[pointer])
        for i, j in permutations(range(len(branches)), 2):
            if not exclude(now, [branches[i], beside], before, [others[j], beside_then]):
                refuse(
                    f"{pointer}/oneOf",
                    f"branches {min(i, j)} and {max(i, j)} may both hold, as far as can be seen: "
                    "give them different types, or a required property with different constants, "
                    "or say anyOf",
                )
    for _, node in wanted:
        _rename(node)


def _without(node: Node) -> Node:
    return {key: value for key, value in node.items() if key != "oneOf"}


def _rename(node: Node) -> None:
    items = list(node.items())
    both = "anyOf" in node
    node.clear()
    for key, value in items:
        node["anyOf" if key == "oneOf" and not both else key] = value
    if both:
        union = node.pop("oneOf")
        node["allOf"] = [*node.get("allOf", ()), {"anyOf": union}]


def plain_texts(pointer: str, node: Node) -> None:
    """Write patterns and formats as llguidance is to have them.

    Raises:
        InvalidFormatError: For one that cannot be enforced.
    """
    if "pattern" in node:
        if node["pattern"].startswith(_DECIMAL):
            node["pattern"] = "^" + node["pattern"][len(_DECIMAL) :]
            node["allOf"] = [*node.get("allOf", ()), {"pattern": "[^+.-]"}]
        node["pattern"] = _plain(f"{pointer}/pattern", node["pattern"], wide=False)
    if named := node.get("patternProperties"):
        # A name that only some take for matching is to be allowed nothing that others forbid.
        others = node.get("additionalProperties", True)
        written: Node = {}
        for name, child in named.items():
            where = f"{pointer}/patternProperties/{escape(name)}"
            pattern = _plain(where, name, wide=others is not False)
            if others not in (True, False, {}) and pattern != _plain(where, name, wide=False):
                refuse(where, "beside additionalProperties this pattern is read in several ways")
            written[pattern] = child
        node["patternProperties"] = written
    if "format" in node:
        _plain_format(pointer, node)


def _plain(where: str, pattern: str, *, wide: bool) -> str:
    try:
        return plain_pattern(pattern, wide=wide)
    except PatternError as error:
        refuse(where, str(error))


def _plain_format(pointer: str, node: Node) -> None:
    name = node.pop("format")
    if name in NOT_ENFORCED:
        refuse(f"{pointer}/format", f"the format {name} cannot be enforced")
    name = STRICTER.get(name, name)
    if name in NATIVE:
        node["format"] = name
    elif name in ANCHORED:
        pattern = ANCHORED[name]
        if "pattern" in node:
            node["allOf"] = [*node.get("allOf", ()), {"pattern": pattern}]
        else:
            node["pattern"] = pattern


def without_dependents(pointer: str, node: Node) -> None:
    """Say `dependentRequired` by a choice: not that key, or the others as well.

    Raises:
        InvalidFormatError: If there are too many.
    """
    dependents = node.pop("dependentRequired", {})
    if len(dependents) > MAX_DEPENDENTS:
        refuse(f"{pointer}/dependentRequired", f"at most {MAX_DEPENDENTS} can be enforced")
    choices = [
        {"anyOf": [{"properties": {key: False}}, {"required": [key, *others]}]}
        for key, others in dependents.items()
        if others
    ]
    if choices:
        node["allOf"] = [*node.get("allOf", ()), *choices]
