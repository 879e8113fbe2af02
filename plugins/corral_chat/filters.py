"""The filters that a chat template may use, each with a bound on what it makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

from jinja2 import Environment
from jinja2.filters import FILTERS, do_indent, make_attrgetter
from jinja2.utils import pass_environment

from corral_chat.bounds import (
    Growing,
    OverBoundsError,
    built,
    charged,
    check_chars,
    check_items,
    counted,
    join,
    listed,
    step,
    text,
)
from corral_chat.operators import add, modulo, replace

_MAX_INDENT_CHARS = 100
_MAX_PRECISION = 30

# Of Jinja's own; those are left out that chat templates have no use for.
_OF_JINJA = [
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "int",
    "items",
    "last",
    "length",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "safe",
    "select",
    "selectattr",
    "sort",
    "title",
    "trim",
    "unique",
    "upper",
    "wordcount",
]
_ITERATING = frozenset(
    ["map", "max", "min", "reject", "rejectattr", "select", "selectattr", "sort", "unique"]
)


def _bounded(name: str) -> Callable[..., Any]:
    """Wrap one of Jinja's filters: lists made on the way are counted, and what it gives."""
    function = FILTERS[name]

    @wraps(function)  # keeps Jinja's marks of what to pass first
    def run(*args: Any, **kwargs: Any) -> Any:
        taken = [
            listed(arg)
            if isinstance(arg, Iterator) or (name in _ITERATING and isinstance(arg, str))
            else arg
            for arg in args[:2]
        ]
        return charged(function(*taken, *args[2:], **kwargs))

    return run


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001,FBT002 - templates pass it by position
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001,FBT002 - likewise
) -> str:
    _check_indent(indent)
    for separator in separators or ():
        _check_indent(separator)
    dumped = json.dumps(
        listed(value) if isinstance(value, Iterator) else built(value),
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    return str(charged(dumped))


def _check_indent(width: Any) -> int:
    """Give the characters of an indent; more than a few are an error."""
    chars = len(width) if isinstance(width, str) else int(width or 0)
    if chars > _MAX_INDENT_CHARS:
        raise OverBoundsError(f"an indent of {chars} characters: at most {_MAX_INDENT_CHARS} fit")
    return chars


def _indent(
    value: Any,
    width: int | str = 4,
    first: bool = False,  # noqa: FBT001,FBT002 - templates pass it by position
    blank: bool = False,  # noqa: FBT001,FBT002 - likewise
) -> str:
    lines = text(value)
    check_items(lines.count("\n"))
    check_chars(len(lines) + (lines.count("\n") + 1) * _check_indent(width))
    return str(charged(do_indent(lines, width, first, blank)))


@pass_environment
def _join(
    environment: Environment, value: Iterable[Any], separator: Any = "", attribute: Any = None
) -> str:
    parts = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return join(parts, text(separator))


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    return replace(text(value), text(old), text(new), -1 if count is None else count)


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    return str(modulo(text(value), kwargs or args))


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if precision > _MAX_PRECISION:
        raise OverBoundsError(f"a precision of {precision} digits: at most {_MAX_PRECISION} fit")
    rounded: float = FILTERS["round"](value, precision, method)
    return rounded


@pass_environment
def _sum(
    environment: Environment, value: Iterable[Any], attribute: Any = None, start: Any = 0
) -> Any:
    parts = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    for part in counted(parts, 1):
        start = add(start, part)
    return start


CHAT_FILTERS: Mapping[str, Callable[..., Any]] = {
    **{name: _bounded(name) for name in _OF_JINJA},
    "format": _format,
    "indent": _indent,
    "join": _join,
    "list": listed,
    "replace": _replace,
    "round": _round,
    "string": text,
    "sum": _sum,
    "tojson": _tojson,
}

COUNTED, STEP, JOINED, BUILT, CHARGED = " counted", " step", " joined", " built", " charged"
GROWING = " growing"

# Those that `rewrite` puts into a template; no template can name them, for the blank in front.
INNER_FILTERS: Mapping[str, Callable[..., Any]] = {
    COUNTED: counted,
    STEP: step,
    JOINED: lambda *parts: join(parts),
    BUILT: built,
    CHARGED: charged,
    GROWING: Growing,
}
