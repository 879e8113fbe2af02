"""Sizes, counts and times as people read them, by the rules of Ollama's tables."""

import math
from datetime import UTC, datetime
from typing import Final

_BYTES: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_TEN: Final = 10
_BILLION: Final = 10**9
_MILLION: Final = 10**6
_THOUSAND: Final = 10**3

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_YEAR_H: Final = 24 * 365
_FOREVER_Y: Final = 20


def size(size_bytes: int) -> str:
    """Write a number of bytes with a decimal unit: `512 B`, `4.7 GB`, `12 GB`."""
    for scale, unit in _BYTES:
        if size_bytes >= scale:
            value = size_bytes / scale
            whole = value >= _TEN or value == math.trunc(value)
            return f"{math.trunc(value)} {unit}" if whole else f"{value:.1f} {unit}"
    return f"{size_bytes} B"


def count(number: int) -> str:
    """Write a count in short: `3.2B`, `134.52M`, `23K`, `999`."""
    if number >= _BILLION:
        return _scaled(number / _BILLION, 1) + "B"
    if number >= _MILLION:
        return _scaled(number / _MILLION, 2) + "M"
    if number >= _THOUSAND:
        return f"{number / _THOUSAND:.0f}K"
    return str(number)


def _scaled(value: float, places: int) -> str:
    return f"{value:.0f}" if value == math.floor(value) else f"{value:.{places}f}"


def parse_time(text: str) -> datetime | None:
    """Read an RFC 3339 time; `None` for the zero time (year 1), for nothing and for nonsense."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.year <= 1:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def relative(moment: datetime | None, now: datetime | None = None) -> str:
    """Say how long ago a moment was, or how far ahead it is; `None` is `Never`."""
    if moment is None:
        return "Never"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if int(-seconds / _HOUR_S) // _YEAR_H > _FOREVER_Y:
        return "Forever"
    return f"{_span(-seconds)} from now" if seconds < 0 else f"{_span(seconds)} ago"


def _span(seconds: float) -> str:
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < _MINUTE_S:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // _MINUTE_S
    if minutes < _MINUTE_S:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = math.floor(seconds / _HOUR_S + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, unit, name in (
        (48, 1, "hours"),
        (24 * 7 * 2, 24, "days"),
        (24 * 30 * 2, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{int(seconds / _HOUR_S) // 24 // 365} years"
