"""Regular expressions of JSON Schema, in words that every reader of them takes for the same.

JSON Schema's patterns are ECMAScript's; validators use their own language's, llguidance Rust's.
What these read differently is written so that it stands for what all of them allow (or, where that
is wanted, for what any of them allows), or refused.
"""

from __future__ import annotations

import re
from typing import NoReturn

MAX_PATTERN_CHARS = 1_000
LOOKAROUND = re.compile(r"\(\?<?[=!]")

_NARROW = {
    "d": "0-9",
    "D": r"[^\p{Nd}]",
    "w": "0-9A-Za-z_",
    "W": r"[^\p{L}\p{N}\p{M}\p{Pc}\x{200c}\x{200d}]",
    "s": r" \t\n\r\x{b}\x{c}",
    "S": r"[^\p{Z}\x{1c}-\x{1f}\x{9}-\x{d}\x{85}\x{feff}]",
}
_WIDE = {
    "d": r"\p{Nd}",
    "D": "[^0-9]",
    "w": r"\p{L}\p{N}\p{M}\p{Pc}\x{200c}\x{200d}",
    "W": "[^0-9A-Za-z_]",
    "s": r"\p{Z}\x{1c}-\x{1f}\x{9}-\x{d}\x{85}\x{feff}",
    "S": r"[^ \t\n\r\x{b}\x{c}]",
}
_ANY = {False: r"[^\n\r\x{2028}\x{2029}]", True: r"[^\n]"}
_CONTROL = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_CODE = re.compile(
    r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|c([A-Za-z])|(0)(?!\d)"
)
_PROPERTY = re.compile(r"[pP]\{[A-Za-z_=]{1,60}\}")
_TIMES = re.compile(r"\{\d{1,9}(,\d{0,9})?\}")
_FROM_NONE = re.compile(r"\{,\d*\}")
_GROUP = re.compile(r"\((?!\?)|\(\?:|\(\?P?<[A-Za-z_]\w{0,60}>")
_LOW = range(0xDC00, 0xE000)
_HIGH = range(0xD800, 0xDC00)


class PatternError(ValueError):
    """A pattern that cannot be enforced; says why."""


def plain_pattern(pattern: str, *, wide: bool = False) -> str:
    """Write a pattern for llguidance.

    Args:
        pattern: As JSON Schema has it.
        wide: Whether it is to match what any reader matches; otherwise: what all of them match.

    Raises:
        PatternError: If that cannot be said, or cannot be enforced.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise PatternError(f"it has {len(pattern):,} characters: at most {MAX_PATTERN_CHARS:,}")
    if LOOKAROUND.search(pattern):
        raise PatternError("patterns that look ahead or behind cannot be enforced")
    return _Writer(pattern, wide=wide).written()


class _Writer:
    def __init__(self, pattern: str, *, wide: bool) -> None:
        self._pattern = pattern
        self._wide = wide
        self._at = 0

    def written(self) -> str:
        parts = []
        while self._at < len(self._pattern):
            parts.append(self._next())
        return "".join(parts)

    def _next(self) -> str:
        here = self._pattern[self._at]
        if here == "\\":
            return self._escape(wide=self._wide, within=False)
        if here == "[":
            return self._class()
        if here == "(":
            return self._group()
        if here in "*+?{":
            return self._times()
        self._at += 1
        if here == ".":
            return _ANY[self._wide]
        return rf"\{here}" if here in "]}#&~-" else here

    def _times(self) -> str:
        if (here := self._pattern[self._at]) != "{":
            self._at += 1
            return here + self._after_times()
        found = _TIMES.match(self._pattern, self._at)
        if found is None:
            if _FROM_NONE.match(self._pattern, self._at):
                self._refuse("{,n} is read in several ways: wanted {0,n}")
            self._at += 1
            return r"\{"
        self._at = found.end()
        return found[0] + self._after_times()

    def _after_times(self) -> str:
        lazy = "?" if self._pattern.startswith("?", self._at) else ""
        self._at += len(lazy)
        if self._pattern[self._at : self._at + 1] in ("*", "+", "?") or _TIMES.match(
            self._pattern, self._at
        ):
            self._refuse("what is repeated is repeated again")
        return lazy

    def _group(self) -> str:
        found = _GROUP.match(self._pattern, self._at)
        if found is None:
            words = self._pattern[self._at : self._at + 4]
            self._refuse(f"the group {words} is not one that can be enforced")
        self._at = found.end()
        return found[0] if found[0] == "(?:" else "("

    def _class(self) -> str:
        self._at += 1
        negated = self._pattern.startswith("^", self._at)
        self._at += negated
        if self._pattern.startswith("]", self._at):
            self._refuse("a class with nothing in it is read in several ways")
        parts = ["[^" if negated else "["]
        # What is left out is to be as much as any reader leaves out.
        wide = self._wide != negated
        while not self._pattern.startswith("]", self._at):
            here = self._pattern[self._at : self._at + 1]
            if not here:
                self._refuse("a class is not closed")
            if here == "\\":
                parts.append(self._escape(wide=wide, within=True))
                continue
            if self._pattern.startswith("--", self._at):
                self._refuse("-- within a class is read in several ways")
            self._at += 1
            # Rust has classes within classes, && and ~~; nobody else.
            parts.append(rf"\{here}" if here in "[&~^" else here)
        self._at += 1
        return "".join([*parts, "]"])

    def _escape(self, *, wide: bool, within: bool) -> str:
        self._at += 1
        here = self._pattern[self._at : self._at + 1]
        if here in _NARROW and here:
            self._at += 1
            words = (_WIDE if wide else _NARROW)[here]
            return words if within or words.startswith("[") else f"[{words}]"
        if here in _CONTROL and here:
            return self._char(_CONTROL[here], self._at + 1)
        if found := _CODE.match(self._pattern, self._at):
            return self._code(found)
        if found := _PROPERTY.match(self._pattern, self._at):
            self._at = found.end()
            return f"\\{found[0]}"
        if here == "b" and within:
            return self._char(8, self._at + 1)
        if here in ("b", "B"):
            self._refuse("word boundaries cannot be enforced")
        if here.isdigit() or here == "k":
            self._refuse("backreferences are not supported")
        if not here or here.isalnum():
            self._refuse(f"the escape \\{here} is read in several ways")
        return self._char(ord(here), self._at + 1)

    def _code(self, found: re.Match[str]) -> str:
        number = found[1] or found[2] or found[3]
        code = int(number, 16) if number else ord(found[4]) % 32 if found[4] else 0
        if code in _HIGH:
            low = _CODE.match(self._pattern, found.end() + 1)
            if self._pattern[found.end() : found.end() + 1] == "\\" and low and low[2]:
                second = int(low[2], 16)
                if second in _LOW:
                    code = 0x10000 + ((code - _HIGH[0]) << 10) + second - _LOW[0]
                    found = low
        if code in _HIGH or code in _LOW or code > 0x10FFFF:  # noqa: PLR2004 - Unicode's last
            self._refuse("half a surrogate pair is no character")
        return self._char(code, found.end())

    def _char(self, code: int, end: int) -> str:
        self._at = end
        return f"\\x{{{code:x}}}"

    def _refuse(self, why: str) -> NoReturn:
        raise PatternError(f"{why} (at character {self._at + 1})")
