"""Whether of two schemas at most one can hold, as far as that can be seen.

`oneOf` wants exactly one branch to hold. Where the branches exclude each other that is `anyOf`,
which can be enforced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from corral_guidance.keywords import Node, is_number
from corral_guidance.walking import resolve

_MAX_DEPTH = 12
_MAX_STEPS = 20_000
"""Of looking at one document; with more, nothing is taken to exclude anything."""

# Every number is one of two kinds, so that types never overlap in part.
_KINDS = {"number": ("whole", "fraction"), "integer": ("whole",)}
_ALL = frozenset({"array", "boolean", "null", "object", "string", "whole", "fraction"})
_NUMBERS = frozenset({"whole", "fraction"})


@dataclass
class Facts:
    """What all of some schemas together demand; what is not understood is left out.

    Attributes:
        kinds: Types that a value may have.
        values: All values there are, if these are listed, by their content.
        low: Bounds of a number, of a text's length, of an array's length; by keyword.
        high: As `low`.
        required: Keys that an object must have.
        properties: What is demanded of a key's value.
        closed: For each schema that allows no keys but its own: those keys.
        unions: Lists of schemas of which at least one must hold.
        impossible: Whether nothing satisfies them.
    """

    kinds: frozenset[str] = _ALL
    values: dict[Any, Any] | None = None
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    properties: dict[str, list[Any]] = field(default_factory=dict)
    closed: list[set[str]] = field(default_factory=list)
    unions: list[list[Any]] = field(default_factory=list)
    impossible: bool = False


class Side:
    """Schemas of one document.

    Args:
        root: What its references are resolved in.
    """

    def __init__(self, root: Node) -> None:
        self._root = root
        self._steps = 0
        self._known: dict[tuple[int, ...], tuple[tuple[Any, ...], Facts]] = {}

    def tired(self) -> bool:
        """Count a step; whether there were too many."""
        self._steps += 1
        return self._steps > _MAX_STEPS

    def facts(self, *schemas: Any) -> Facts:
        """Gather what schemas that hold together demand."""
        ids = tuple(map(id, schemas))
        if ids not in self._known:  # where the schemas are kept too, lest their ids be used again
            self._known[ids] = (schemas, self._gathered(schemas))
        return self._known[ids][1]

    def _gathered(self, schemas: tuple[Any, ...]) -> Facts:
        facts = Facts()
        todo = list(schemas)
        met: set[int] = set()
        while todo:
            schema = todo.pop()
            if schema is False:
                facts.impossible = True
            if not isinstance(schema, dict) or id(schema) in met:
                continue
            met.add(id(schema))
            _add(facts, schema)
            todo += schema.get("allOf", ())
            reference = schema.get("$ref")
            if reference == "#":
                todo.append(self._root)
            elif isinstance(reference, str) and reference.startswith("#/"):
                todo.append(resolve(self._root, reference, "#"))
        return facts


_LOW = {"minimum": "number", "minLength": "string", "minItems": "array"}
_HIGH = {"maximum": "number", "maxLength": "string", "maxItems": "array"}


def _add(facts: Facts, schema: Node) -> None:
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        facts.kinds &= {kind for name in types for kind in _KINDS.get(name, (name,))}
    for listed in _listings(schema):
        values = {_content(value): value for value in listed}
        known = facts.values
        facts.values = {
            key: value for key, value in values.items() if known is None or key in known
        }
    for keys, bounds, inner in ((_LOW, facts.low, max), (_HIGH, facts.high, min)):
        for key in {*keys} & {*schema}:
            what = keys[key]
            bounds[what] = inner(schema[key], bounds.get(what, schema[key]))
    _add_keys(facts, schema)
    facts.unions += [schema[key] for key in ("anyOf", "oneOf") if key in schema]


def _listings(schema: Node) -> Iterator[list[Any]]:
    """Give lists of all values that a schema may have: its own, and those of its branches."""
    if isinstance(schema.get("enum"), list):
        yield schema["enum"]
    if "const" in schema:
        yield [schema["const"]]
    for key in ("anyOf", "oneOf"):
        branches = schema.get(key, ())
        if branches and all(isinstance(b, dict) and {"const", "enum"} & {*b} for b in branches):
            yield [
                value for b in branches for value in (b["enum"] if "enum" in b else [b["const"]])
            ]


def _add_keys(facts: Facts, schema: Node) -> None:
    facts.required.update(schema.get("required", ()))
    properties = schema.get("properties", {})
    for name, child in properties.items():
        facts.properties.setdefault(name, []).append(child)
    if schema.get("additionalProperties") is False and not schema.get("patternProperties"):
        facts.closed.append({*properties})


def exclude(one: Side, a: list[Any], other: Side, b: list[Any], depth: int = 0) -> bool:
    """Whether no value satisfies all schemas of `a` and all of `b`.

    Args:
        one: The document of `a`.
        a: Schemas that hold together.
        other: The document of `b`.
        b: As `a`.
        depth: How deep it has looked.
    """
    if depth > _MAX_DEPTH or one.tired():
        return False
    mine, theirs = one.facts(*a), other.facts(*b)
    if mine.impossible or theirs.impossible or _plainly(mine, theirs):
        return True
    if (mine.kinds & theirs.kinds) == {"object"} and _by_keys(one, mine, other, theirs, depth):
        return True
    for union in mine.unions:
        if all(exclude(one, [branch], other, b, depth + 1) for branch in union):
            return True
    for union in theirs.unions:
        if all(exclude(one, a, other, [branch], depth + 1) for branch in union):
            return True
    return False


def _plainly(mine: Facts, theirs: Facts) -> bool:
    """By types, values and bounds."""
    kinds = mine.kinds & theirs.kinds
    if not kinds:
        return True
    for facts, against in ((mine, theirs), (theirs, mine)):
        values = facts.values
        if values is not None and not any(_fits(*item, against) for item in values.items()):
            return True
    for what, only in (("number", _NUMBERS), ("string", {"string"}), ("array", {"array"})):
        if kinds <= only:
            low = max((f.low[what] for f in (mine, theirs) if what in f.low), default=None)
            high = min((f.high[what] for f in (mine, theirs) if what in f.high), default=None)
            if low is not None and high is not None and low > high:
                return True
    return False


def _by_keys(one: Side, mine: Facts, other: Side, theirs: Facts, depth: int) -> bool:
    """By a key that one of two objects must have, and the other cannot have so."""
    for key in mine.required | theirs.required:
        for facts in (mine, theirs):
            if any(key not in names for names in facts.closed):
                return True
        a, b = mine.properties.get(key, []), theirs.properties.get(key, [])
        if (False in [x for x in (*a, *b) if isinstance(x, bool)]) or (
            a and b and exclude(one, a, other, b, depth + 1)
        ):
            return True
    return False


def _fits(content: Any, value: Any, facts: Facts) -> bool:
    """Whether a value may satisfy facts: False is certain."""
    if facts.values is not None and content not in facts.values:
        return False
    if not _kinds_of(value) & facts.kinds:
        return False
    if isinstance(value, dict):
        return facts.required <= {*value} and all({*value} <= names for names in facts.closed)
    for what, kind in (("string", str), ("array", list)):
        if isinstance(value, kind):
            return _between(len(value), facts, what)
    return not is_number(value) or _between(value, facts, "number")


def _between(value: float, facts: Facts, what: str) -> bool:
    return facts.low.get(what, value) <= value <= facts.high.get(what, value)


def _kinds_of(value: Any) -> frozenset[str]:
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if is_number(value):
        whole = isinstance(value, int) or value.is_integer()
        return frozenset({"whole" if whole else "fraction"})
    names: dict[type, str] = {dict: "object", list: "array", str: "string"}
    return frozenset({names.get(type(value), "null")})


def _content(value: Any) -> Any:
    """Give what is equal for equal JSON values alone: 1 is 1.0, but not true."""
    if isinstance(value, list):
        return ("list", *map(_content, value))
    if isinstance(value, dict):
        return frozenset((key, _content(item)) for key, item in value.items())
    return (isinstance(value, bool), value)
