"""From the text of an answer to events: content, thoughts, calls."""

import secrets
import string
from collections.abc import Sequence

from corral_kernel.contracts import (
    AnswerSpec,
    CallPart,
    ChatParser,
    Content,
    EndReason,
    OutputEvent,
    Thought,
)
from corral_kernel.contracts.chat import name_of
from corral_kernel.frames import Generate, JobEvent, Text, TokenLogprob, ToolCall
from corral_kernel.sampling.failures import ANYTHING, parser_failed

PROMPT_END_CHARS = 256
"""So much of the prompt's end is told to parsers."""
_ID_CHARACTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 8


def answer_spec(spec: Generate, rendered: str) -> AnswerSpec | None:
    """What a parser is told of an answer; None: nothing is to be read.

    Args:
        spec: The request.
        rendered: Its prompt.
    """
    reading, prompt = spec.reading, spec.prompt
    if reading is None:
        return None
    name = spec.tool_choice.name
    return AnswerSpec(
        renderer=reading.renderer or prompt.renderer,
        template=reading.template or prompt.template,
        prompt_end=rendered[-PROMPT_END_CHARS:],
        last=prompt.messages[-1] if prompt.messages else None,
        think=prompt.think,
        calls=reading.calls,
        tools=tuple(tool for tool in prompt.tools if not name or name_of(tool) == name),
        force_call=spec.tool_choice.mode == "required",
        constrain_tools=spec.options.constrain_tools,
        think_budget=spec.options.think_budget,
    )


class Reader:
    """Makes the events of one answer.

    Args:
        job_id: Of the answer.
        parser: That reads it; None: all text is content.
        spec: What it is told.

    Attributes:
        kept: Texts in which control tokens occur that have to be shown to the parser.
    """

    def __init__(
        self, job_id: int, parser: ChatParser | None = None, spec: AnswerSpec | None = None
    ) -> None:
        self._job_id = job_id
        self._name = "" if parser is None else parser.name
        self._events: list[OutputEvent] = []
        self._output = None
        self.kept: frozenset[str] = frozenset()
        if parser is not None and spec is not None:
            try:
                self._output = parser.start(spec)
            except ANYTHING as error:
                raise parser_failed(self._name, error) from error
            self.kept = self._output.kept

    @property
    def ended(self) -> bool:
        """Whether nothing that may follow belongs to the answer."""
        return self._output is not None and self._output.ended

    def feed(self, text: str) -> None:
        """Take the next piece of text.

        Raises:
            CorralError: If the parser fails, or what the model wrote is an error.
        """
        if not text:
            return
        if self._output is None:
            self._events.append(Content(text))
            return
        try:
            self._events += self._output.feed(text)
        except ANYTHING as error:
            raise parser_failed(self._name, error) from error

    def finish(self, reason: EndReason) -> None:
        """Take the end; otherwise as `feed`."""
        if self._output is None:
            return
        try:
            self._events += self._output.finish(reason)
        except ANYTHING as error:
            raise parser_failed(self._name, error) from error

    def take(self, logprobs: tuple[TokenLogprob, ...] = ()) -> list[JobEvent]:
        """Give what was decided since the last time.

        Args:
            logprobs: Of the tokens since then, whatever became of their text.
        """
        events = [self._event(event) for event in _merged(self._events)]
        self._events = []
        if logprobs:
            first = events[0] if events else None
            if isinstance(first, Text):
                events[0] = Text(
                    job_id=self._job_id,
                    content=first.content,
                    thinking=first.thinking,
                    logprobs=logprobs,
                )
            else:
                events.insert(0, Text(job_id=self._job_id, logprobs=logprobs))
        return events

    def event(self, part: CallPart) -> ToolCall:
        """Give a part of a call that was read elsewhere."""
        return ToolCall(
            job_id=self._job_id,
            index=part.index,
            id=call_id() if part.name else "",
            name=part.name,
            arguments=part.arguments,
            last=part.last,
        )

    def _event(self, event: CallPart | tuple[str, str]) -> JobEvent:
        if isinstance(event, CallPart):
            return self.event(event)
        thinking, content = event
        return Text(job_id=self._job_id, content=content, thinking=thinking)


def call_id() -> str:
    """Make an id of a call."""
    return "call_" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))


def _merged(events: Sequence[OutputEvent]) -> list[CallPart | tuple[str, str]]:
    """Texts that follow each other as one: thoughts, and what comes after them."""
    merged: list[CallPart | tuple[str, str]] = []
    for event in events:
        last = merged[-1] if merged else None
        if isinstance(event, CallPart):
            merged.append(event)
        elif isinstance(event, Thought):
            if isinstance(last, tuple) and not last[1]:
                merged[-1] = (last[0] + event.text, "")
            else:
                merged.append((event.text, ""))
        elif isinstance(last, tuple):
            merged[-1] = (last[0], last[1] + event.text)
        else:
            merged.append(("", event.text))
    return merged
