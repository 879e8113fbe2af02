"""How calls are written between their marks: what a form of writing has to tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corral_chat.parsing.schemas import object_schema


class NotACallError(Exception):
    """What stands behind a mark is no call, so that the mark was text."""


class MalformedCallError(Exception):
    """A call that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call: the name of the tool, and the JSON object of its arguments."""

    name: str
    arguments: str


class Tools:
    """The tools that may be called.

    Args:
        given: As OpenAI writes them.
    """

    def __init__(self, given: Sequence[Mapping[str, Any]]) -> None:
        self._schemas: dict[str, dict[str, Any]] = {}
        for tool in given:
            function = tool.get("function")
            name = function.get("name") if isinstance(function, Mapping) else None
            if isinstance(function, Mapping) and isinstance(name, str) and name:
                self._schemas.setdefault(name, object_schema(function.get("parameters")))

    def __iter__(self) -> Iterator[str]:
        """Give the names, in order."""
        return iter(self._schemas)

    def __contains__(self, name: object) -> bool:
        return name in self._schemas

    def __len__(self) -> int:
        return len(self._schemas)

    def schema(self, name: str) -> dict[str, Any]:
        """Give the JSON Schema of a tool's arguments, less remarks; of an unknown one any."""
        return self._schemas.get(name, {"type": "object"})

    def property(self, name: str, argument: str) -> dict[str, Any]:
        """Give the schema of one argument; empty: nothing is known of it."""
        properties = self.schema(name).get("properties")
        found = properties.get(argument) if isinstance(properties, Mapping) else None
        return dict(found) if isinstance(found, Mapping) else {}


class Scanner:
    """Finds where a call ends in text that comes in pieces. One object a call."""

    def feed(self, text: str) -> int | None:
        """Read on.

        Returns:
            How many characters of `text` belong to the call; None: all, and it goes on.

        Raises:
            NotACallError: If this is no call, and its mark was text.
        """
        raise NotImplementedError


class MarkScanner(Scanner):
    """Finds the mark behind a call, which is no part of it."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._tail = ""

    def feed(self, text: str) -> int | None:
        """Read on; see `Scanner.feed`. May be less than nothing: the mark began before."""
        whole = self._tail + text
        at = whole.find(self._mark)
        if at >= 0:
            return at - len(self._tail)
        self._tail = whole[-(len(self._mark) - 1) :] if len(self._mark) > 1 else ""
        return None


class CallForm:
    """A way to write calls.

    Attributes:
        repeats: Behind one call another may follow at once, without its mark.
        closers: What may stand behind a call beside the mark that ends it, and means nothing.
        marks: Control tokens inside calls, that have to be seen.
    """

    repeats: bool = False
    closers: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def opening(self) -> str:
        """What a call begins with, where no mark stands before it; empty: it needs one."""
        return ""

    def single(self) -> CallForm:
        """Give the form of one call alone, which a forced call is held to."""
        return self

    def head(self, name: str) -> str:
        """Give what its grammar writes of a call before the JSON object of the arguments.

        Such a call's arguments are passed on as they come. Empty: they are not written so.
        """
        del name
        return ""

    def scanner(self, end: str) -> Scanner:
        """Make what finds the end of one call.

        Args:
            end: The mark that follows calls; empty: there is none.
        """
        return MarkScanner(end)

    def parse(self, text: str, tools: Tools) -> Sequence[Call]:
        """Read what stands between the marks.

        Args:
            text: All of it: what the scanner found, or what there was when the answer ended.
            tools: Of the request; may be none.

        Raises:
            MalformedCallError: If it is no call.
        """
        raise NotImplementedError

    def grammar(self, tools: Tools, *, begun: bool = False) -> str | None:
        """Write a Lark grammar of calls that the tools' schemas allow, whose rule is `start`.

        It is of llguidance's variant: `%json {…}` stands for text of a JSON Schema.

        Args:
            tools: At least one.
            begun: Whether `opening` is written already.

        Returns:
            None if this form cannot be held to schemas.
        """
        del tools, begun
        return None
