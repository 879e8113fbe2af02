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

    def first(self, text: str, *, more: bool = False) -> re.Match[str] | None:
        """Find the first mark that is whole.

        Args:
            text: To look in.
            more: Whether more text may come, of which a mark that goes on might be made.
        """
        met = self._find(text) if self._find is not None else None
        if met is None or not more:
            return met
        tail = text[met.start() :]
        goes_on = any(m.startswith(tail) and len(m) > len(tail) for m in self._marks)
        return None if goes_on else met

    def begun(self, text: str) -> int:
        """Length of the longest end of a text that may be the beginning of a mark."""
        firsts = self._firsts
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[at] in firsts and any(mark.startswith(text[at:]) for mark in self._marks):
                return len(text) - at
        return 0
