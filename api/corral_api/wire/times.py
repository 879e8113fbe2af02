"""Times as clients read them: RFC 3339, up to nine fractional digits, no trailing zeros."""

import functools
import time

NANOSECONDS: int = 1_000_000_000


def utc_text(unix_ns: int) -> str:
    """Write a time (nanoseconds since 1970) in UTC: `2026-08-21T10:00:00.2Z`."""
    seconds, nanoseconds = divmod(unix_ns, NANOSECONDS)
    return f"{_utc_second(seconds)}{_fraction(nanoseconds)}Z"


def now_text() -> str:
    """Write the present moment in UTC, for a `created_at`."""
    return utc_text(time.time_ns())


def local_text(unix_ns: int) -> str:
    """Write a time (nanoseconds since 1970) in this machine's zone: `…+02:00`, `Z` for UTC."""
    seconds, nanoseconds = divmod(unix_ns, NANOSECONDS)
    local = time.localtime(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", local) + _fraction(nanoseconds)
    if local.tm_gmtoff == 0:
        return text + "Z"
    hours, minutes = divmod(abs(local.tm_gmtoff) // 60, 60)
    return f"{text}{'-' if local.tm_gmtoff < 0 else '+'}{hours:02}:{minutes:02}"


@functools.lru_cache(maxsize=4)  # the same second is written for every token in it
def _utc_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
