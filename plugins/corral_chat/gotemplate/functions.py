"""The functions that every Go template has; those of models' templates are in `data`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote_plus

from corral_chat.bounds import charged, check_chars
from corral_chat.gotemplate.comparing import CallProblem, equal, less, less_or_equal
from corral_chat.gotemplate.formatting import sprint, sprintln
from corral_chat.gotemplate.strings import decode, encode, length, rejoined
from corral_chat.gotemplate.values import (
    INVALID,
    Byte,
    GoList,
    GoMap,
    Struct,
    concrete,
    is_true,
    type_name,
)
from corral_chat.gotemplate.verbs import sprintf

_HTML = str.maketrans(
    {
        "\0": "\ufffd",
        '"': "&#34;",
        "'": "&#39;",
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
    }
)
_JS_SPECIAL = re.compile(r"""[\\'"<>&=\x00-\x1f]|[^\x00-\x7f]""")
_JS_SHORT = {"\\": "\\\\", "'": "\\'", '"': '\\"'}
_MOST_INDEXES = 3
_ESCAPED = 8  # a text to escape counts so many times


@dataclass(frozen=True, slots=True)
class Function:
    """What a template can call.

    Attributes:
        run: Called with the values of all arguments.
        fixed: How many arguments it wants; with `variadic`, at least.
        variadic: Whether it takes more.
        takes: `value` as Go's reflect.Value, which can be no value; `any`, where that is nil.
        text_first: Whether the first must be a string.
    """

    run: Callable[..., Any]
    fixed: int
    variadic: bool = False
    takes: str = "any"
    text_first: bool = False


def _index_of(value: Any, capacity: int) -> int:
    if value is INVALID:
        raise CallProblem("cannot index slice/array with nil")
    if isinstance(value, bool) or not isinstance(value, int):
        raise CallProblem(f"cannot index slice/array with type {type_name(value)}")
    if not 0 <= value <= capacity:
        raise CallProblem(f"index out of range: {value}")
    return int(value)


def _index(item: Any, *indexes: Any) -> Any:
    if concrete(item) is INVALID:
        raise CallProblem("index of untyped nil")
    for given in indexes:
        index = concrete(given)
        if item is None:
            raise CallProblem("index of nil pointer")
        item = _item(item, index)
    return item


def _item(item: Any, index: Any) -> Any:
    if isinstance(item, GoMap):
        if index is INVALID:
            raise CallProblem("value is nil; should be of type string")
        if not isinstance(index, str):
            raise CallProblem(f"value has type {type_name(index)}; should be string")
        return item.items.get(index, item.zero)
    if isinstance(item, str):
        data = encode(item)
        at = _index_of(index, len(data))
        if at == len(data):
            raise CallProblem("reflect: string index out of range")
        return Byte(data[at])
    if isinstance(item, GoList):
        at = _index_of(index, len(item.items))
        if at == len(item.items):
            raise CallProblem("reflect: slice index out of range")
        return item.items[at]
    raise CallProblem(f"can't index item of type {_static(item)}")


def _static(item: Any) -> str:
    return type_name(item).removeprefix("*")


def _slice(item: Any, *indexes: Any) -> Any:
    if concrete(item) is INVALID:
        raise CallProblem("slice of untyped nil")
    if len(indexes) > _MOST_INDEXES:
        raise CallProblem(f"too many slice indexes: {len(indexes)}")
    if isinstance(item, str):
        if len(indexes) == _MOST_INDEXES:
            raise CallProblem("cannot 3-index slice a string")
        data = encode(item)
        begin, end = _range(indexes, len(data))
        return charged(decode(data[begin:end]))
    if not isinstance(item, GoList):
        raise CallProblem(f"can't slice item of type {_static(item)}")
    begin, end = _range(indexes, len(item.items))
    part = item.slice(begin, end)
    charged(part.items)
    return part


def _range(indexes: Sequence[Any], count: int) -> tuple[int, int]:
    found = [0, count, count]
    for place, index in enumerate(indexes):
        found[place] = _index_of(index, count)
    for low, high in pairwise(found[: max(2, len(indexes))]):
        if low > high:
            raise CallProblem(f"invalid slice index: {low} > {high}")
    return found[0], found[1]


def _len(item: Any) -> int:
    if item is INVALID:
        raise CallProblem("reflect: call of reflect.Value.Type on zero Value")
    if item is None:
        raise CallProblem("len of nil pointer")
    if isinstance(item, str):
        return length(item)
    if isinstance(item, (GoList, GoMap)):
        return len(item.items)
    raise CallProblem(f"len of type {_static(item)}")


def _call(function: Any, *_arguments: Any) -> Any:
    if concrete(function) is INVALID:
        raise CallProblem("call of nil")
    raise CallProblem(f"non-function of type {type_name(function)}")


def _joined(values: Sequence[Any]) -> str:
    shown = ["<no value>" if value is None else _pointed(value) for value in values]
    return sprint(shown)


def _pointed(value: Any) -> Any:
    """Give what a pointer points to."""
    if isinstance(value, Struct) and value.kind.pointer:
        return Struct(value.kind.target, value.values)
    return value


def _html(*values: Any) -> str:
    return str(charged(_joined(values).translate(_HTML)))


def _js(*values: Any) -> str:
    text = rejoined(_joined(values))
    check_chars(_ESCAPED * len(text))
    return str(charged(_JS_SPECIAL.sub(_js_escape, text)))


def _js_escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _JS_SHORT:
        return _JS_SHORT[character]
    if not character.isascii() and character.isprintable():
        return character
    return f"\\u{code:04X}"


def _urlquery(*values: Any) -> str:
    return str(charged(quote_plus(encode(_joined(values)))))


def _and_or(*_values: Any) -> Any:
    raise AssertionError("the evaluator does these itself, since they do not look at all operands")


BUILTINS: Final[Mapping[str, Function]] = MappingProxyType(
    {
        "and": Function(_and_or, 1, variadic=True, takes="value"),
        "or": Function(_and_or, 1, variadic=True, takes="value"),
        "not": Function(lambda value: not is_true(concrete(value)), 1, takes="value"),
        "eq": Function(lambda first, *rest: equal(first, rest), 1, variadic=True, takes="value"),
        "ne": Function(lambda first, second: not equal(first, [second]), 2, takes="value"),
        "lt": Function(less, 2, takes="value"),
        "le": Function(less_or_equal, 2, takes="value"),
        "gt": Function(lambda a, b: not less_or_equal(a, b), 2, takes="value"),
        "ge": Function(lambda a, b: not less(a, b), 2, takes="value"),
        "len": Function(_len, 1, takes="value"),
        "index": Function(_index, 1, variadic=True, takes="value"),
        "slice": Function(_slice, 1, variadic=True, takes="value"),
        "call": Function(_call, 1, variadic=True, takes="value"),
        "print": Function(lambda *values: charged(sprint(values)), 0, variadic=True),
        "println": Function(lambda *values: charged(sprintln(values)), 0, variadic=True),
        "printf": Function(
            lambda form, *values: charged(sprintf(form, values)), 1, variadic=True, text_first=True
        ),
        "html": Function(_html, 0, variadic=True),
        "js": Function(_js, 0, variadic=True),
        "urlquery": Function(_urlquery, 0, variadic=True),
    }
)
