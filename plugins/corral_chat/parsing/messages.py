"""Answers that are several messages, each with a header that says what it is: gpt-oss, Glimmer.

The prompt ends within the first header. Texts of one message follow its `<|message|>`, up to the
mark of an end, or of the next message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from corral_chat.parsing.forms import Call, MalformedCallError
from corral_chat.parsing.marks import MarkFinder
from corral_kernel.contracts import (
    CallPart,
    Content,
    EndReason,
    OutputEvent,
    OutputParser,
    Thought,
)
from corral_kernel.errors import OutputError

MESSAGE: Final = "<|message|>"


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says of the text behind it.

    Attributes:
        kind: What that is.
        read: Makes the calls of its text, where it is one.
    """

    kind: str  # `answer`, `thought` or `call`
    read: Callable[[str], Sequence[Call]] | None = None


class MessageParser(OutputParser):
    """Reads one answer.

    Args:
        header: Tells by a header's text what it is; None: it is no header, but text.
        start: Mark before a header.
        ends: Marks behind a message.
        inside: What the text of the answer belongs to from its first letter on, where the prompt
            ends behind a header.
        shows_thoughts: Else they are left out.
    """

    def __init__(
        self,
        header: Callable[[str], Header | None],
        start: str,
        ends: Sequence[str],
        *,
        inside: Header | None = None,
        shows_thoughts: bool = True,
    ) -> None:
        self._header = header
        self._start = start
        self._ends = frozenset(ends)
        self._shows_thoughts = shows_thoughts
        self._marks = MarkFinder((start, MESSAGE, *ends))
        self.kept = frozenset({start, MESSAGE, *ends, "<|channel|>", "<|constrain|>"})
        self._text = ""  # waits
        self._now = inside
        self._head = ""  # of the message whose text has not begun
        self._call = ""  # the text of the call that is under way
        self._count = 0

    def feed(self, text: str) -> Sequence[OutputEvent]:
        """Take the next piece of text."""
        self._text += text
        return self._run(None)

    def finish(self, reason: EndReason) -> Sequence[OutputEvent]:
        """Take the end; a header without a text is none."""
        events = self._run(reason)
        if self._now is None:
            if self._head.strip() and self._header(self._head) is None:
                events.append(Content(self._head))
        elif self._now.kind == "call":
            events += self._called(self._now, broken_off=reason != "stop")
        return events

    def _run(self, reason: EndReason | None) -> list[OutputEvent]:
        events: list[OutputEvent] = []
        while (met := self._marks.first(self._text)) is not None:
            before, mark = self._text[: met.start()], met.group()
            self._text = self._text[met.end() :]
            events += self._take(before)
            events += self._meet(mark)
        held = 0 if reason else self._marks.begun(self._text)
        events += self._take(self._text[: len(self._text) - held])
        self._text = self._text[len(self._text) - held :]
        return _joined(events)

    def _take(self, text: str) -> list[OutputEvent]:
        if not text:
            return []
        if self._now is None:
            self._head += text
            return []
        if self._now.kind == "call":
            self._call += text
            return []
        if self._now.kind == "thought":
            return [Thought(text)] if self._shows_thoughts else []
        return [Content(text)]

    def _meet(self, mark: str) -> list[OutputEvent]:
        if mark == MESSAGE and self._now is None:
            self._now, self._head = self._header(self._head) or Header("answer"), ""
            return []
        if mark == MESSAGE:  # text that looks like a mark
            return self._take(mark)
        events: list[OutputEvent] = []
        if self._now is not None and self._now.kind == "call":
            events += self._called(self._now, broken_off=False)
        elif self._now is None and self._head.strip() and self._header(self._head) is None:
            events.append(Content(self._head))
        self._now, self._head = None, ""
        return events

    def _called(self, header: Header, *, broken_off: bool) -> list[OutputEvent]:
        text, self._call = self._call, ""
        assert header.read is not None, "a call can be read"
        try:
            calls = header.read(text)
        except MalformedCallError as error:
            if broken_off:
                return [Content(text)] if text else []
            raise OutputError(str(error)) from None
        events: list[OutputEvent] = []
        for call in calls:
            events.append(CallPart(self._count, call.name, call.arguments))
            self._count += 1
        return events


def _joined(events: Sequence[OutputEvent]) -> list[OutputEvent]:
    """Put neighbouring texts of one kind together."""
    joined: list[OutputEvent] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Content) and isinstance(last, Content):
            joined[-1] = Content(last.text + event.text)
        elif isinstance(event, Thought) and isinstance(last, Thought):
            joined[-1] = Thought(last.text + event.text)
        else:
            joined.append(event)
    return joined
