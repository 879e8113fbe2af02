"""Operators and methods of values, for where a result can be far larger than its operands."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from corral_chat.bounds import (
    MAX_INTEGER_BITS,
    MAX_ITEMS,
    OverBoundsError,
    built,
    charged,
    check_chars,
    check_items,
    join,
    text,
)

# A width of four digits or more, or one that is taken from an argument.
_WIDE_PERCENT = re.compile(r"%(?:\([^)]*\))?[-+ #.\d]*?(?:\d{4}|\*)")
_WIDE_FORMAT = re.compile(r"\{[^{}]*:[^{}]*(?:\d{4}|\{)")
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def add(left: Any, right: Any) -> Any:
    """Add numbers, or join texts or lists."""
    return built(left + right)


def multiply(left: Any, right: Any) -> Any:
    """Multiply numbers, or repeat a text or list."""
    for value, count in ((left, right), (right, left)):
        if isinstance(count, int):
            if isinstance(value, str):
                check_chars(len(value) * count)
            elif isinstance(value, list | tuple):
                check_items(len(value) * count)
    return built(left * right)


def power(left: Any, right: Any) -> Any:
    """Raise a number to a power."""
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * right)
    return left**right


def _check_bits(bits: int) -> None:
    if bits > MAX_INTEGER_BITS:
        raise OverBoundsError(f"a number of over {MAX_INTEGER_BITS} bits")


def modulo(left: Any, right: Any) -> Any:
    """Take a remainder, or fill a text in the manner of `%`."""
    if not isinstance(left, str):
        return left % right
    if isinstance(right, Mapping):
        values = list(right.values())
    else:
        values = list(right) if isinstance(right, tuple) else [right]
    if _WIDE_PERCENT.search(left):
        raise OverBoundsError("a format with a width over 999")
    _check_filled(left, "%", values)
    return charged(left % right)


def _check_filled(template: str, mark: str, values: list[Any]) -> None:
    longest = max((len(text(value)) for value in values), default=0)
    check_chars(len(template) + template.count(mark) * (longest + 1000))


BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": add,
    "-": operator.sub,
    "*": multiply,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": modulo,
    "**": power,
}


def bounded_format(template: str, fill: Callable[..., str]) -> Callable[..., str]:
    """Bound the filling of `template` by `fill`, its own `format` method."""

    def run(*args: Any, **kwargs: Any) -> str:
        if _WIDE_FORMAT.search(template):
            raise OverBoundsError("a format with a width over 999")
        _check_filled(template, "{", [*args, *kwargs.values()])
        return str(charged(fill(*args, **kwargs)))

    return run


def replace(value: str, old: str, new: str, count: int = -1) -> str:
    """Replace a text."""
    times = value.count(old)
    check_chars(len(value) + (min(times, count) if count >= 0 else times) * len(new))
    return str(charged(value.replace(old, new, count)))


def _split(value: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    limit = MAX_ITEMS if maxsplit < 0 else min(maxsplit, MAX_ITEMS)
    return list(charged(value.split(sep, limit)))


def _rsplit(value: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    limit = MAX_ITEMS if maxsplit < 0 else min(maxsplit, MAX_ITEMS)
    return list(charged(value.rsplit(sep, limit)))


def _splitlines(value: str, keepends: bool = False) -> list[str]:  # noqa: FBT001,FBT002 - str's own
    check_items(sum(map(value.count, _LINE_ENDS)))
    return list(charged(value.splitlines(keepends)))


def _join(value: str, values: Any) -> str:
    return join(values, value)


def _plain(name: str) -> Callable[..., Any]:
    method = getattr(str, name)
    return lambda value, *args: charged(method(value, *args))


_PLAIN = [
    "capitalize",
    "casefold",
    "count",
    "endswith",
    "find",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "rfind",
    "rindex",
    "rpartition",
    "rstrip",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
]

TEXT_METHODS: Mapping[str, Callable[..., Any]] = {
    **{name: _plain(name) for name in _PLAIN},
    "join": _join,
    "replace": replace,
    "rsplit": _rsplit,
    "split": _split,
    "splitlines": _splitlines,
}
"""By name: functions of the text and the arguments."""

OTHER_METHODS: Mapping[type, frozenset[str]] = {
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
    range: frozenset({"count", "index"}),
    int: frozenset(),
    float: frozenset({"is_integer"}),
    bytes: frozenset(),
}
"""Harmless ones of other built-in types."""

GROWING_METHODS: Final = frozenset({"append", "pop"})
"""Besides, of lists that a template writes itself."""
