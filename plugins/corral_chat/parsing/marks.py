"""Marks in text that comes in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable


class MarkFinder:
    """Looks for the first of some texts.

    Args:
        marks: Empty ones do not count. Of two that begin at one place the longer one is found.
    """

    def __init__(self, marks: Iterable[str]) -> None:
        ordered = sorted({mark for mark in marks if mark}, key=len, reverse=True)
        self._marks = tuple(ordered)
        self._firsts = frozenset(mark[0] for mark in ordered)
        self._longest = len(ordered[0]) if ordered else 0
        self._find = re.compile("|".join(map(re.escape, ordered))).search if ordered else None

    def first(self, text: str) -> re.Match[str] | None:
        """Find the first mark that is whole."""
        return self._find(text) if self._find is not None else None

    def begun(self, text: str) -> int:
        """Length of the longest end of a text that may be the beginning of a mark."""
        firsts = self._firsts
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[at] in firsts and any(mark.startswith(text[at:]) for mark in self._marks):
                return len(text) - at
        return 0
