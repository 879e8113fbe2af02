"""Numbers as templates write them."""

from __future__ import annotations

import re

from corral_chat.gotemplate.strings import quote

_DIGITS = r"[0-9](?:_?[0-9])*"
_INTEGER = re.compile(
    r"([+-]?)(?:0[xX](?P<x>(?:_?[0-9a-fA-F])+)|0[bB](?P<b>(?:_?[01])+)"
    r"|0[oO]?(?P<o>(?:_?[0-7])+)|(?P<d>0|[1-9](?:_?[0-9])*))"
)
_FLOAT = re.compile(rf"[+-]?(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?")
_HEX_FLOAT = re.compile(r"[+-]?0[xX]_?[0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?[0-9]+")
_BASES = {"x": 16, "b": 2, "o": 8, "d": 10}
_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)
_LONGEST = 1000  # characters of a number; Python reads long ones in quadratic time


def parse_number(text: str) -> int | float:
    """Read a number: an int, or a float if it is written as one.

    Raises:
        ValueError: If it is none, or is over 64 bits.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"illegal number syntax: {quote(text[:40])}...")
    match = _INTEGER.fullmatch(text)
    if match:
        base = match.lastgroup or "d"
        value = int(match[base].replace("_", ""), _BASES[base])
        value = -value if match[1] == "-" else value
        if value in _INT64:
            return value
        if value in _UINT64 and match[1] != "+":
            raise ValueError(f"{text} overflows int")
        if base == "d":
            raise ValueError(f"integer overflow: {quote(text)}")
        raise ValueError(f"illegal number syntax: {quote(text)}")
    try:
        if _FLOAT.fullmatch(text):
            if not set(text) & set(".eE"):  # `08`: only digits, and yet no integer
                raise ValueError(f"integer overflow: {quote(text)}")
            return _finite(float(text.replace("_", "")))
        if _HEX_FLOAT.fullmatch(text):
            return _hexadecimal(text)
    except OverflowError:
        pass
    raise ValueError(f"illegal number syntax: {quote(text)}")


def _hexadecimal(text: str) -> float:
    try:
        return _finite(float.fromhex(text.replace("_", "")))
    except ValueError:
        raise ValueError(f"illegal number syntax: {quote(text)}") from None


def _finite(value: float) -> float:
    if value in (float("inf"), float("-inf")):
        raise OverflowError
    return value
