"""Decoded JSON as Go writes it: encoded again, and by `%v` and `%#v`.

    go_json(value)      compact JSON; `<`, `>`, `&` escaped; maps keep the order they have
    sorted_keys(value)  the value with all its maps sorted by key, as Go writes maps
    plain(value)        `%v`:  <|im_end|>   1e+06   true   <nil>
    syntax(value)       `%#v`: "<|im_end|>" 1e+06   true   <nil>

Go decodes every JSON number as a 64-bit float, so all numbers are written as floats.
"""

import json
import math
from decimal import Decimal
from typing import Any

from corral_kernel.gotext import format_number, quote

# JSON numbers below the first and from the second power of ten on are written with an exponent.
_PLAIN_POWERS = range(-6, 21)
_ESCAPED = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


def go_json(value: Any) -> bytes:
    """Write JSON as Go's encoder does, without a final newline.

    Not-a-number and infinities become `null`: JSON has no word for them.
    """
    return _json(value).encode("utf-8", errors="replace")


def _json(value: Any) -> str:
    match value:
        case None | bool():
            return json.dumps(value)
        case int() | float():
            return _json_number(_as_float(value))
        case str():
            return json.dumps(value, ensure_ascii=False).translate(_ESCAPED)
        case dict():
            return "{" + ",".join(f"{_json(str(k))}:{_json(v)}" for k, v in value.items()) + "}"
        case _:
            return "[" + ",".join(_json(item) for item in value) + "]"


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _json_number(number: float) -> str:
    if not math.isfinite(number):
        return "null"
    exact = Decimal(repr(number)).normalize()
    if not number or exact.adjusted() in _PLAIN_POWERS:
        return f"{exact:f}"
    mantissa, _, power = f"{exact:e}".partition("e")
    return f"{mantissa}e{power}"


def sorted_keys(value: Any) -> Any:
    """Sort the keys of all maps in a value."""
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [sorted_keys(item) for item in value]
    return value


def plain(value: Any) -> str:
    """Write a value as `%v` does."""
    match value:
        case dict():
            items = " ".join(f"{key}:{plain(value[key])}" for key in sorted(value))
            return f"map[{items}]"
        case list() | tuple():
            return "[" + " ".join(plain(item) for item in value) + "]"
        case str():
            return value
        case _:
            return _simple(value)


def syntax(value: Any) -> str:
    """Write a value as `%#v` does: in Go's own syntax."""
    match value:
        case dict():
            items = ", ".join(f"{quote(key)}:{_inner(value[key])}" for key in sorted(value))
            return "map[string]interface {}{" + items + "}"
        case list() | tuple():
            return "[]interface {}{" + ", ".join(_inner(item) for item in value) + "}"
        case str():
            return quote(value)
        case _:
            return _simple(value)


def _inner(value: Any) -> str:
    return "interface {}(nil)" if value is None else syntax(value)


def _simple(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_number(_as_float(value))
