"""Numbers and texts as Go writes and reads them: what Ollama's clients send and compare."""

import math
import re
import struct
from decimal import Decimal
from typing import Final

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,30}")
_INT64: Final = range(-(2**63), 2**63)
_FLOAT: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_HEX_FLOAT: Final = re.compile(
    r"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+"
)
_NO_NUMBER: Final = re.compile(r"[+-]?(inf|infinity|nan)", re.IGNORECASE)

_SHORT_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}
_LAST_OF_BMP: Final = 0xFFFF
_SMALLEST_PLAIN_EXPONENT: Final = -4
_FIRST_SHOWN_EXPONENT: Final = 6


def parse_bool(text: str) -> bool:
    """Read a truth value: one of `1 t T TRUE true True`, or of their opposites.

    Raises:
        ValueError: If `text` is anything else.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(text)


def parse_int64(text: str) -> int:
    """Read a decimal whole number of 64 bits with an optional sign.

    Raises:
        ValueError: If `text` is anything else.
    """
    if not _INTEGER.fullmatch(text) or int(text) not in _INT64:
        raise ValueError(text)
    return int(text)


def parse_float32(text: str) -> float:
    """Read a number (`1`, `.5`, `1e-3`, `0x1p-2`, `inf`), rounded to 32 bits.

    Raises:
        ValueError: If `text` is no number, or beyond 32 bits.
    """
    try:
        if _HEX_FLOAT.fullmatch(text):
            return nearest_float32(float.fromhex(text))
        if _FLOAT.fullmatch(text) or _NO_NUMBER.fullmatch(text):
            return nearest_float32(float(text))
    except OverflowError:
        pass
    raise ValueError(text)


def nearest_float32(value: float) -> float:
    """Round to 32 bits, and give the shortest decimal with these 32 bits: 0.7 stays 0.7.

    Raises:
        OverflowError: If a finite `value` is beyond 32 bits.
    """
    if not math.isfinite(value):
        return value
    packed = struct.pack("<f", value)
    rounded: float = struct.unpack("<f", packed)[0]
    for digits in range(1, 9):
        short = float(f"{rounded:.{digits}g}")
        if _fits(short) and struct.pack("<f", short) == packed:
            return short
    return float(f"{rounded:.9g}")


def _fits(value: float) -> bool:
    """Tell whether a number has a place in 32 bits: the largest one, rounded up, has none."""
    try:
        struct.pack("<f", value)
    except OverflowError:
        return False
    return True


def format_number(value: float) -> str:
    """Write a JSON number as Go prints it: `4096`, `0.7`, `1e+06`, `1.048576e+06`, `5e-05`."""
    sign, digits, exponent = Decimal(repr(float(value))).normalize().as_tuple()
    if not isinstance(exponent, int):
        return {"F": "-Inf" if sign else "+Inf"}.get(exponent, "NaN")
    power = len(digits) + exponent - 1
    if _SMALLEST_PLAIN_EXPONENT <= power < _FIRST_SHOWN_EXPONENT:
        return repr(float(value)).removesuffix(".0")
    first, *rest = (str(digit) for digit in digits)
    mantissa = first + ("." + "".join(rest) if rest else "")
    return f"{'-' if sign else ''}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"


def quote(text: str) -> str:
    r"""Quote `text` the way `%q` does: `say "hi"` becomes `"say \"hi\""`."""
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    short = _SHORT_ESCAPES.get(character)
    if short is not None:
        return short
    if character.isprintable():
        return character
    code = ord(character)
    if character < " " or character == "\x7f":
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= _LAST_OF_BMP else f"\\U{code:08x}"
