"""What floods of grammars are made of: formats as they go over the wire, no two alike."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final

_MEGABYTES: Final = 10
_MARK: Final = "@@"


def new_schema(number: int) -> bytes:
    """A schema of the kind that programs send, never seen before: every second one is larger."""
    if number % 2:
        return _json(_order(number))
    word = {"type": "string", "maxLength": 12}
    fields = {f"field_{number}_{place}": word for place in range(10)}
    return _json({"type": "object", "properties": fields, "required": list(fields)})


def attack(number: int) -> bytes:
    """A format that is meant to do harm; one kind after the other."""
    makers = (*_SCHEMAS, *_TEXTS)
    return makers[number % len(makers)](number)


def _order(number: int) -> dict[str, Any]:
    """Nested, with references, unions and patterns: nothing that compiles at a glance."""
    item = {
        "type": "object",
        "properties": {
            "code": {"type": "string", "pattern": f"^[A-Z]{{2}}-{number}-[0-9]{{3,8}}$"},
            "count": {"type": "integer", "minimum": 1, "maximum": 1000 + number},
            "size": {"anyOf": [{"enum": ["S", "M", "L"]}, {"type": "number"}, {"type": "null"}]},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/item"}, "maxItems": 4},
        },
        "required": ["code", "count"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            f"order_{number}": {"type": "string", "format": "uuid"},
            "placed": {"type": "string", "format": "date-time"},
            "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "maxItems": 20},
        },
        "required": [f"order_{number}", "placed", "items"],
        "additionalProperties": False,
        "$defs": {"item": item},
    }


def _nested(number: int) -> bytes:
    levels = 5000
    return b'{"items":' * levels + b'{"const":%d}' % number + b"}" * levels


def _enum(number: int) -> bytes:
    return _json({"enum": [number + i * 7919 for i in range(50_000)]})


def _properties(number: int) -> bytes:
    names = {f"f{number}_{i}": {"type": "string", "pattern": f"^a{{{i}}}b*$"} for i in range(1000)}
    return _json({"type": "object", "properties": names})


def _product(number: int) -> bytes:
    kinds = [{"properties": {f"k{i}": {"const": i + number}}} for i in range(5)]
    return _json({"type": "object", "allOf": [{"anyOf": kinds} for _ in range(9)]})


def _multiple(number: int) -> bytes:
    return _json({"type": "integer", "multipleOf": 1_000_003 + 2 * number})


def _circle(number: int) -> bytes:
    return _json({"$ref": "#/$defs/a", "title": str(number), "$defs": {"a": {"$ref": "#/$defs/a"}}})


def _no_text(number: int) -> bytes:
    return b'{"const":"%d \xff\xfe"}' % number


def _chained(number: int) -> str:
    rules = [f"r{i}: r{i + 1}" for i in range(3000)]
    return "\n".join(["start: r0", *rules, f'r3000: "{number}"'])


def _doubling(number: int) -> str:
    rules = [f"r{i}: r{i + 1} r{i + 1}" for i in range(60)]
    return "\n".join(["start: r0", *rules, f'r60: "{number}"'])


@cache
def _megabytes() -> tuple[bytes, bytes]:
    """What comes before and after a number in a grammar of ten megabytes."""
    grammar = f'start: "{_MARK}' + "a" * (_MEGABYTES * 1_000_000) + '"'
    before, _, after = _json({"type": "lark", "grammar": grammar}).partition(_MARK.encode())
    return before, after


def _huge(number: int) -> bytes:
    before, after = _megabytes()
    return b"%s%d%s" % (before, number, after)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _regex(pattern: str) -> Callable[[int], bytes]:
    return lambda number: _json({"type": "regex", "pattern": pattern.replace(_MARK, str(number))})


def _grammar(kind: str, write: Callable[[int], str]) -> Callable[[int], bytes]:
    return lambda number: _json({"type": kind, "grammar": write(number)})


_SCHEMAS: Final = (_nested, _enum, _properties, _product, _multiple, _circle, _no_text)
_TEXTS: Final = (
    _regex("@@a{1,1000000000}"),
    _regex("@@((((a*)*)*)*)*b"),
    _regex(r"@@(\p{L}{1,50}\p{N}{1,50}){1,50}"),
    _regex("@@(?s:.*)a(?s:.{500})"),
    _grammar("lark", lambda number: f'start: a\na: a "{number}" | a "y" | "z"'),
    _grammar("lark", _chained),
    _grammar("lark", _doubling),
    _grammar("gbnf", lambda number: f'root ::= s\ns ::= s s | s s s | "{number}"'),
    _grammar("gbnf", lambda number: f'root ::= (("{number}" | "b"){{1,1000}} "c"?){{1,1000}}'),
    _huge,
)
