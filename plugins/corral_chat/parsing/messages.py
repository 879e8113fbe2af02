"""Answers that are several messages, each with a header that says what it is: gpt-oss, Glimmer.

The prompt ends within the first header. Texts of one message follow its `<|message|>`, up to the
mark of an end, or of the next message. What is no message in the end is text, as it was written.
"""

from __future__ import annotations

import re
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
        shown: What of the header is text of the answer: names and words that nothing else tells.
    """

    kind: str  # `answer`, `thought` or `call`
    read: Callable[[str], Sequence[Call]] | None = None
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around messages.

    Attributes:
        start: Mark before a header.
        ends: Marks behind a message.
        silent: Headers, white space left out, that say nothing where no message follows. All
            others are text then.
    """

    start: str
    ends: tuple[str, ...]
    silent: re.Pattern[str]


class MessageParser(OutputParser):
    """Reads one answer.

    Args:
        header: Tells what a header is: all that stands before `<|message|>`, its mark too.
        frame: Of its messages.
        inside: What the text of the answer belongs to from its first letter on, where the prompt
            ends behind a header.
        shows_thoughts: Else they are left out.
    """

    def __init__(
        self,
        header: Callable[[str], Header],
        frame: Frame,
        *,
        inside: Header | None = None,
        shows_thoughts: bool = True,
    ) -> None:
        self._header = header
        self._frame = frame
        self._shows_thoughts = shows_thoughts
        marks = (frame.start, MESSAGE, *frame.ends)
        self._marks = MarkFinder(marks)
        self.kept = frozenset({*marks, "<|channel|>", "<|constrain|>"})
        self._text = ""  # waits
        self._now = inside
        self._head = ""  # of the message, as it is written
        self._call = ""  # the text of the call that is under way
        self._count = 0

    def feed(self, text: str) -> Sequence[OutputEvent]:
        """Take the next piece of text."""
        self._text += text
        return self._run(None)

    def finish(self, reason: EndReason) -> Sequence[OutputEvent]:
        """Take the end; what is no message, and no call, is text with all of its header."""
        events = self._run(reason)
        return _joined([*events, *self._end(broken_off=reason != "stop")])

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
        if self._now is None:
            self._head += text
        elif self._now.kind == "call":
            self._call += text
        elif self._now.kind == "answer":
            return [Content(text)] if text else []
        elif text and self._shows_thoughts:
            return [Thought(text)]
        return []

    def _meet(self, mark: str) -> list[OutputEvent]:
        if mark != MESSAGE:
            events = self._end(broken_off=False)
            self._now, self._head = None, mark if mark == self._frame.start else ""
            return events
        if self._now is not None:  # text that looks like a mark
            return self._take(mark)
        self._now = self._header(self._head)
        self._head += mark
        return [] if self._now.kind == "call" else _texts(self._now.shown)

    def _end(self, *, broken_off: bool) -> list[OutputEvent]:
        """The message ends."""
        if self._now is None:
            silent = self._frame.silent.fullmatch("".join(self._head.split()))
            return [] if silent else _texts(self._head)
        if self._now.read is None:
            return []
        text, self._call = self._call, ""
        try:
            calls = self._now.read(text)
        except MalformedCallError as error:
            if broken_off:
                return _texts(self._head + text)
            raise OutputError(str(error)) from None
        events = _texts(self._now.shown)
        for call in calls:
            events.append(CallPart(self._count, call.name, call.arguments))
            self._count += 1
        return events


def _texts(text: str) -> list[OutputEvent]:
    return [Content(text)] if text else []


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
