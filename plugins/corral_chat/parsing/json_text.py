"""JSON as models write it: where an object ends in text that comes in pieces, and what it holds."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

from corral_chat.parsing.forms import MalformedCallError, NotACallError, Scanner

LOOSE_LEAD_CHARS: Final = 256
"""So much may stand between a mark and the object, where anything may."""

_OUTSIDE: Final = re.compile(r'["{}\[\]]')
_INSIDE: Final = re.compile(r'["\\]')
_NO_LEAD: Final = re.compile(r"[^\s\[,]")


class JsonScanner(Scanner):
    """Finds the end of the first object; brackets and commas may stand before it.

    Args:
        loose: Whether other text may, too, such as a name.
    """

    def __init__(self, *, loose: bool = False) -> None:
        self._loose = loose
        self._lead_chars = 0
        self._depth = 0
        self._in_string = self._escaped = False

    def feed(self, text: str) -> int | None:
        """Read on; see `Scanner.feed`."""
        at = 0
        if not self._depth:
            at = text.find("{")
            lead = text if at < 0 else text[:at]
            self._lead_chars += len(lead)
            if self._lead_chars > LOOSE_LEAD_CHARS or (not self._loose and _NO_LEAD.search(lead)):
                raise NotACallError
            if at < 0:
                return None
        return self._object(text, at)

    def _object(self, text: str, at: int) -> int | None:
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = (_INSIDE if self._in_string else _OUTSIDE).search(text, at)
            if found is None:
                return None
            at = found.end()
            self._take(found.group())
            if not self._depth:
                return at
        return None

    def _take(self, character: str) -> None:
        if character == '"':
            self._in_string = not self._in_string
        elif character == "\\":
            self._escaped = True
        else:
            self._depth += 1 if character in "{[" else -1


def read_json(text: str) -> Any:
    """Decode JSON; the order of keys and whole numbers of any size stay as they are.

    Raises:
        MalformedCallError: If it is none, or holds a number that is too large.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite, strict=False)
    except (ValueError, RecursionError) as error:
        raise MalformedCallError(f"failed to parse JSON: {error}") from None


def write_json(value: Any) -> str:
    """Encode what `read_json` gave."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value
