"""Durations as Go writes them: what Ollama's clients send and what its tools print.

A duration is a whole number of nanoseconds in a signed 64-bit range, as it travels on the wire.
"""

import re
from typing import Final

from corral_kernel.errors import InvalidRequestError
from corral_kernel.gotext import quote

NANOSECOND: Final = 1
MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

FOREVER: Final = 2**63 - 1
"""The longest duration there is, in nanoseconds; how "never" is said."""

_UNITS: Final = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "\u00b5s": MICROSECOND,  # the micro sign
    "\u03bcs": MICROSECOND,  # the Greek letter, which looks the same
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_FRACTIONS: Final = (  # of a second: the unit, what is too long for it, its name
    (NANOSECOND, MICROSECOND, "ns"),
    (MICROSECOND, MILLISECOND, "\u00b5s"),
    (MILLISECOND, SECOND, "ms"),
)
_LIMIT: Final = 2**63
_MAX_TEXT: Final = 256
_TERM: Final = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?([^.0-9]*)")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")


class InvalidDurationError(InvalidRequestError, ValueError):
    """A text that is no duration. The message is the one that Go's own parser gives."""


def parse_duration(text: str) -> int:
    """Read a Go duration such as `300ms`, `-1.5h` or `2h45m`.

    Args:
        text: An optional sign, then numbers each with a unit (`ns us ms s m h`). A bare `0` is
            fine; any other number needs its unit.

    Returns:
        Nanoseconds; negative where the text is.

    Raises:
        InvalidDurationError: If the text is anything else, or beyond 64 bits.
    """
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest or len(text) > _MAX_TEXT:
        raise _invalid(text)
    total = 0
    for match in _TERM.finditer(rest):
        if match.group():  # the last one is empty: every part of the pattern is optional
            total += _term(match, text)
    if total > _LIMIT:
        raise _invalid(text)
    if not negative and total == _LIMIT:
        raise _invalid(text)
    return -total if negative else total


def _term(match: re.Match[str], text: str) -> int:
    whole, _, fraction, unit = match.groups()
    if not whole and not fraction:
        raise _invalid(text)
    if not unit:
        raise InvalidDurationError(f"time: missing unit in duration {quote(text[:_MAX_TEXT])}")
    scale = _UNITS.get(unit)
    if scale is None:
        raise InvalidDurationError(
            f"time: unknown unit {quote(unit)} in duration {quote(text[:_MAX_TEXT])}"
        )
    value = int(whole or "0") * scale
    if fraction:
        value += int(fraction) * scale // 10 ** len(fraction)
    return value


def _invalid(text: str) -> InvalidDurationError:
    return InvalidDurationError(f"time: invalid duration {quote(text[:_MAX_TEXT])}")


def parse_keep_alive(text: str) -> int:
    """Read a duration as settings and command lines give it: `5m`, `1.5h`, `-1`, `300`.

    Args:
        text: A Go duration, or a whole number of seconds.

    Returns:
        Nanoseconds; `FOREVER` for anything negative, 0 for "not at all".

    Raises:
        InvalidDurationError: If the text is neither.
    """
    if _INTEGER.fullmatch(text):
        return seconds_to_keep_alive(int(text))
    duration = parse_duration(text)
    return FOREVER if duration < 0 else duration


def seconds_to_keep_alive(seconds: float) -> int:
    """Turn a number of seconds (a JSON number of a request) into nanoseconds.

    Negative numbers and those beyond 64 bits of nanoseconds are `FOREVER`; NaN is too.
    """
    if not 0 <= seconds < FOREVER / SECOND:
        return FOREVER
    return int(seconds * SECOND)


def keep_alive_from_json(value: float | str) -> int:
    """Read the `keep_alive` of a request: a number of seconds, or a Go duration as text.

    Returns:
        Nanoseconds; `FOREVER` for anything negative.

    Raises:
        InvalidDurationError: If a text is no Go duration (one without a unit is none).
    """
    if isinstance(value, str):
        duration = parse_duration(value)
        return FOREVER if duration < 0 else duration
    return seconds_to_keep_alive(value)


def format_duration(nanoseconds: int) -> str:
    """Write a duration as Go prints it: `1.234567s`, `12.5ms`, `1h0m0s`, `0s`."""
    if nanoseconds < 0:
        return "-" + format_duration(-nanoseconds)
    if nanoseconds == 0:
        return "0s"
    for unit, above, name in _FRACTIONS:
        if nanoseconds < above:
            return _decimal(nanoseconds, unit) + name
    hours, rest = divmod(nanoseconds, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds = _decimal(rest, SECOND) + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(value: int, unit: int) -> str:
    """Write `value / unit` (a power of ten) exactly, without trailing zeros."""
    whole, fraction = divmod(value, unit)
    digits = str(fraction).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
