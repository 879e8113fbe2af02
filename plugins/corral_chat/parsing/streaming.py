"""Arguments of calls as they come, where a plan holds calls to their schemas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from corral_chat.parsing.json_text import JsonScanner

_LEAD: Final = " \t\r\n[,"


class CallStream:
    """Gives the arguments of one call before it is whole.

    A call that is not written to the letter as a plan writes it is not held to anything: of it
    nothing is given, and it is read when it is whole.

    Args:
        heads: For each tool all that stands before the arguments, and its name.

    Attributes:
        name: Of the tool, as soon as arguments come.
        over: The arguments are whole.
    """

    def __init__(self, heads: Sequence[tuple[str, str]]) -> None:
        self.name = ""
        self.over = False
        self._heads = [(head.lstrip(_LEAD) + "{", name) for head, name in heads]
        self._lead = ""
        self._scanner = JsonScanner()

    def feed(self, text: str) -> str:
        """Take the next piece of the call; give what it brings of the arguments' JSON text."""
        if self.over or not self._heads:
            return ""
        if not self.name:
            self._lead += text
            text = self._arguments()
        end = self._scanner.feed(text) if self.name else None
        self.over = end is not None
        return text[:end]

    def _arguments(self) -> str:
        lead = self._lead.lstrip(_LEAD)
        for head, name in self._heads:
            if lead.startswith(head):
                self.name = name
                return lead[len(head) - 1 :]
        self._heads = [pair for pair in self._heads if pair[0].startswith(lead)]
        return ""
