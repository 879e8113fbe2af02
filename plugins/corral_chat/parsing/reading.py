"""Reads an answer by the table of its family, piece by piece."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from corral_chat.parsing.forms import (
    MalformedCallError,
    NotACallError,
    Scanner,
    Tools,
)
from corral_chat.parsing.marks import MarkFinder
from corral_chat.parsing.streaming import CallStream
from corral_chat.parsing.tables import Calls, Family
from corral_kernel.contracts import (
    AnswerSpec,
    CallPart,
    Content,
    EndReason,
    OutputEvent,
    OutputParser,
    Thought,
)
from corral_kernel.errors import OutputError

_BARE: Final = "{["
"""How an answer begins that may be a call without a mark."""
_NEXT: Final = re.compile(r"\s*[,;]?\s*(?=\{)")
_MAYBE_NEXT: Final = re.compile(r"\s*[,;]?\s*\Z")


class TableParser(OutputParser):
    """Reads one answer.

    Each state is a method that takes from the text that waits, and tells whether to go on: in the
    state that it chose, or in itself. At the end of the answer nothing is held any more.

    Args:
        family: By whose table.
        spec: Of the answer.
    """

    def __init__(self, family: Family, spec: AnswerSpec) -> None:
        thinking = family.thinking
        self._family = family
        self._tools = Tools(spec.tools)
        self._ways = family.calls if spec.calls else ()
        self._bare = next((way for way in self._ways if not way.begin), None)
        self._begins = {way.begin: way for way in self._ways if way.begin}
        self._answer_marks = MarkFinder((*self._begins, *family.dropped, *family.ends))
        self.kept = family.kept
        self._text = ""  # waits
        begun = family.begun(spec)
        self._lead = "" if begun is None else begun.begin  # in the prompt
        self._blank = ""  # white space that counts only if more follows
        self._events: list[OutputEvent] = []
        self._count = 0  # of calls
        self._reason: EndReason | None = None
        self._way: Calls | None = None  # of the call that is under way
        self._mark = ""  # before it
        self._body: list[str] = []
        self._scanner: Scanner | None = None
        held = spec.force_call or (spec.constrain_tools and spec.answer is None)
        self._passes_on = held and len(self._tools) > 0
        self._stream = CallStream(())
        self._state: Callable[[], bool] = self._beginning
        if thinking is not None:
            inside = self._begins if thinking.ends_at_call else ()
            self._open, self._close = thinking.open, thinking.close
            self._trims_thought = thinking.trims
            self._shows_thought = bool(spec.think) or thinking.off != "hidden"
            self._thought_marks = MarkFinder((thinking.close, *inside))
            where = thinking.where(spec)
            if where != "off":
                self._state = self._entering if where == "inside" else self._opening

    def feed(self, text: str) -> Sequence[OutputEvent]:
        """Take the next piece of text."""
        if text:
            self._text += self._lead + text
            self._lead = ""
        return self._run()

    def finish(self, reason: EndReason) -> Sequence[OutputEvent]:
        """Take the end."""
        self._reason = reason
        return self._run()

    def _run(self) -> Sequence[OutputEvent]:
        events = self._events = []
        while self._state():
            pass
        return events

    # ---------------------------------------------------------------------------- the thought

    def _opening(self) -> bool:
        """Before a thought, if one comes; white space before an answer without one is its own."""
        text = self._text.lstrip()
        if text.startswith(self._open):
            self._text, self._state = text[len(self._open) :], self._thinking
            return True
        if self._reason is None and self._open.startswith(text):
            return False
        self._state = self._beginning
        return True

    def _entering(self) -> bool:
        """At the beginning of a thought that the prompt began; its mark may come once more."""
        text = self._text.lstrip()
        if self._reason is None and self._open.startswith(text):
            return False
        self._text = text.removeprefix(self._open)
        self._state = self._thinking
        return True

    def _thinking(self) -> bool:
        """After the opening mark, up to the first letter."""
        self._text = self._text.lstrip()
        if self._text:
            self._state = self._thought
        return bool(self._text)

    def _thought(self) -> bool:
        met = self._thought_marks.first(self._text, more=not self._reason)
        if met is None:
            held = 0 if self._reason else self._thought_marks.begun(self._text)
            self._think(self._text[: len(self._text) - held])
            self._text = self._text[len(self._text) - held :]
            return False
        self._think(self._text[: met.start()])
        self._blank = ""
        if met.group() == self._close:
            self._text, self._state = self._text[met.end() :], self._behind
        else:
            self._text, self._state = self._text[met.start() :], self._answer
            self._passes_on = False  # a plan looks for no calls in a thought
        return True

    def _think(self, text: str) -> None:
        text = self._blank + text
        shown = text.rstrip() if self._trims_thought else text
        self._blank = text[len(shown) :]
        if shown and self._shows_thought:
            self._add(Thought(shown))

    def _behind(self) -> bool:
        """Behind a thought: white space before the answer is not shown."""
        self._text = self._text.lstrip()
        if self._text:
            self._state = self._beginning
        return bool(self._text)

    # ----------------------------------------------------------------------------- the answer

    def _beginning(self) -> bool:
        """Before the first letter of the answer, which may be that of a call without a mark."""
        if self._bare is not None:
            text = self._text.lstrip()
            if not text and not self._reason:
                return False
            if text and text[0] in _BARE:
                self._call(self._bare, "")
                return True
        self._state = self._answer
        return True

    def _answer(self) -> bool:
        met = self._answer_marks.first(self._text, more=not self._reason)
        if met is None:
            held = 0 if self._reason else self._answer_marks.begun(self._text)
            self._say(self._text[: len(self._text) - held])
            self._text = self._text[len(self._text) - held :]
            return False
        self._say(self._text[: met.start()])
        mark = met.group()
        self._text = self._text[met.end() :]
        if mark in self._begins:
            self._call(self._begins[mark], mark)
        elif mark in self._family.ends:
            self.ended, self._text = True, ""
            return False
        return True

    def _say(self, text: str) -> None:
        text = self._blank + text
        shown = text.rstrip() if self._family.trims else text
        self._blank = text[len(shown) :]
        if shown:
            self._add(Content(shown))

    # ------------------------------------------------------------------------------ the calls

    def _call(self, way: Calls, mark: str) -> None:
        """A call begins behind its mark."""
        self._way, self._mark, self._body = way, mark, []
        self._scanner = way.form.scanner(way.end)
        heads = ((way.form.head(name), name) for name in self._tools if self._passes_on)
        self._stream = CallStream([pair for pair in heads if pair[0]])
        self._state = self._calling

    def _calling(self) -> bool:
        assert self._scanner is not None
        try:
            end = self._scanner.feed(self._text)
        except NotACallError:
            self._text = "".join((*self._body, self._text))
            self._refuse(self._mark)
            return True
        self._pass_on(self._text if end is None else self._text[: max(0, end)])
        if end is None:
            self._body.append(self._text)
            self._text = ""
            if self._reason:
                self._break_off()
            return False
        body = "".join((*self._body, self._text))
        rest = len(self._text) - end
        self._text = body[len(body) - rest :] if rest else ""
        self._read(body[: len(body) - rest] if rest else body)
        return True

    def _pass_on(self, text: str) -> None:
        """Give what there is of the arguments, where a plan holds them to their schema."""
        begun = bool(self._stream.name)
        arguments = self._stream.feed(text)
        if arguments:
            name = "" if begun else self._stream.name
            self._add(CallPart(self._count, name, arguments, last=self._stream.over))

    def _break_off(self) -> None:
        """The answer ends within a call: it is read if only the mark behind it is missing."""
        body = "".join(self._body)
        self._body = []
        if self._stream.name:  # what there was of it was given
            return
        if self._reason == "stop":
            self._read(body)
        else:
            self._refuse(self._mark + body)

    def _read(self, body: str) -> None:
        assert self._way is not None
        if self._stream.over:
            self._end_calls(1)
            return
        try:
            calls = self._way.form.parse(body, self._tools)
        except MalformedCallError as error:
            if self._family.malformed == "error" and self._way.begin:
                raise OutputError(str(error)) from None
            self._refuse(self._mark + body)
            return
        for place, call in enumerate(calls):
            self._add(CallPart(self._count + place, call.name, call.arguments))
        self._end_calls(len(calls))

    def _end_calls(self, count: int) -> None:
        self._count += count
        self._blank = ""
        self._body, self._mark = [], ""
        self._state = self._after

    def _refuse(self, text: str) -> None:
        """What looked like a call is text; one without a mark does not begin later."""
        self._body, self._mark = [], ""
        self._say(text)
        self._state = self._answer

    def _after(self) -> bool:
        """Behind a call: white space and closing marks are not shown; another may follow."""
        assert self._way is not None
        way = self._way
        text = self._text.lstrip()
        closers = [closer for closer in (way.end.strip(), *way.form.closers) if closer]
        for closer in closers:
            if text.startswith(closer):
                self._text = text[len(closer) :]
                return True
        if way.form.repeats and (met := _NEXT.match(text)):
            self._text = text[met.end() :]
            self._call(way, met.group())
            return True
        may_go_on = way.form.repeats and _MAYBE_NEXT.match(text)
        may_close = any(closer.startswith(text) for closer in closers)
        if not self._reason and (not text or may_go_on or may_close):
            return False
        self._text, self._state = text, self._answer
        return True

    # ------------------------------------------------------------------------------ privately

    def _add(self, event: OutputEvent) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(event, Content) and isinstance(last, Content):
            self._events[-1] = Content(last.text + event.text)
        elif isinstance(event, Thought) and isinstance(last, Thought):
            self._events[-1] = Thought(last.text + event.text)
        elif isinstance(event, CallPart) and isinstance(last, CallPart) and not last.last:
            arguments = last.arguments + event.arguments
            self._events[-1] = CallPart(event.index, last.name, arguments, last=event.last)
        else:
            self._events.append(event)
