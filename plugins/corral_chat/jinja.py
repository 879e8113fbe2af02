"""Renders conversations by Jinja templates: as transformers does, handed over as by llama.cpp."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from types import TracebackType
from typing import Any, Final

import jinja2

from corral_chat.adapting import asked_for_answer
from corral_chat.bounds import FAILURES, MAX_STEPS, OverBoundsError, check_chars, start
from corral_chat.continuing import begun
from corral_chat.environment import ChatEnvironment
from corral_chat.messages import shown_messages
from corral_chat.shapes import Fields, Shape
from corral_chat.tools import tool_fields
from corral_kernel.contracts import Conversation, Message
from corral_kernel.errors import TemplateBoundsError, TemplateError

MAX_TEMPLATE_CHARS = 64 * 1024
COMPILED_TEMPLATES = 16
"""So many are kept compiled."""
MAX_PROBE_STEPS = 1_000_000
"""Of a rendering by which it is found how a template wants its messages."""
FUNCTIONS_MARK: Final = "functools["
"""In the templates of Firefunction, which want the tools as one text."""
_MAX_DATE_FORMAT_CHARS = 100

# What a template can raise. No broader: who interrupts a rendering does so by an exception.
_FAILURES = (*FAILURES, MemoryError, RecursionError, SyntaxError)


class Compiled:
    """A template that parses, and what is known of it.

    Attributes:
        source: Its text.
        template: Compiled.
        shape: How it wants its messages.
    """

    def __init__(self, source: str) -> None:
        _check_length(source)
        self.source = source
        self.template = _environment().load(source)
        self.shape = Shape(self._probe)

    def _probe(self, given: Fields) -> str:
        constants = _constants(Conversation(messages=()), self.source)
        return self.run({**constants, "add_generation_prompt": True, **given}, MAX_PROBE_STEPS)

    def run(self, given: Fields, steps: int = MAX_STEPS) -> str:
        """Render it; what it raises is not yet told as an error of ours."""
        start(steps)
        pieces: list[str] = []
        chars = 0
        for piece in self.template.root_render_func(self.template.new_context(given)):
            pieces.append(piece)
            chars += len(piece)
            check_chars(chars)
        return "".join(pieces)


def render(template: str, conversation: Conversation) -> str:
    """Render a conversation; an assistant's message at its end is one to go on with.

    Raises:
        TemplateError: If the template does not parse, fails, or is over the bounds.
    """
    with _told():
        known = _compiled(template)
    with _told(known.template):
        return _render(known, conversation)


def _render(known: Compiled, conversation: Conversation) -> str:
    given = variables(known, conversation)

    def shown(messages: Sequence[Message], asks: bool) -> str:  # noqa: FBT001 - see `begun`
        shown = shown_messages(known.source, known.shape, messages)
        rendered = known.run({**given, "messages": shown, "add_generation_prompt": asks})
        return asked_for_answer(known.source, rendered) if asks else rendered

    messages = conversation.messages
    if messages and messages[-1].role == "assistant" and not messages[-1].tool_calls:
        return begun(shown, messages)
    return shown(messages, True)  # noqa: FBT003 - likewise


def variables(known: Compiled, conversation: Conversation) -> dict[str, Any]:
    """Give all that a template is given beside the messages and whether an answer is asked for."""
    given = _constants(conversation, known.source)
    return given if given["tools"] else {**given, "tools": known.shape.absent_tools}


@cache
def _environment() -> ChatEnvironment:
    return ChatEnvironment()


_compiled: Final = lru_cache(COMPILED_TEMPLATES)(Compiled)


def _check_length(template: str) -> None:
    if len(template) > MAX_TEMPLATE_CHARS:
        raise OverBoundsError(
            f"it has {len(template):,} characters: at most {MAX_TEMPLATE_CHARS:,} are read"
        )


def _constants(conversation: Conversation, template: str) -> dict[str, Any]:
    """Give what a template is given that does not depend on its shape."""
    now = dt.datetime.fromtimestamp(conversation.now).astimezone()

    def strftime_now(form: str) -> str:
        if len(form) > _MAX_DATE_FORMAT_CHARS:
            raise OverBoundsError(f"a date format of over {_MAX_DATE_FORMAT_CHARS} characters")
        return now.strftime(form)

    tools = [tool_fields(tool) for tool in conversation.tools] or None
    return {
        "tools": tools,
        "documents": None,
        "bos_token": conversation.bos,
        "eos_token": conversation.eos,
        "strftime_now": strftime_now,
        "date_string": now.strftime("%d %b %Y"),
        "datetime": now.strftime("%b %d %Y"),
        **_thinking(conversation),
        **({"functions": _as_text(tools)} if FUNCTIONS_MARK in template else {}),
    }


def _as_text(tools: list[Fields] | None) -> str:
    return json.dumps(tools, indent=2, ensure_ascii=False) if tools else ""


def _thinking(conversation: Conversation) -> dict[str, Any]:
    """Give what templates are told of thinking, each by the names that it may know."""
    think = conversation.think
    if think is None:
        return {}
    given: dict[str, Any] = {"enable_thinking": bool(think), "thinking": bool(think)}
    if isinstance(think, str):
        given |= {"reasoning_effort": think, "reasoning_strength": think}
    elif not think:
        given |= {"reasoning": False, "thinking_mode": "disabled"}
    return given


@contextmanager
def _told(template: jinja2.Template | None = None) -> Iterator[None]:
    """Turn what a template raises into an error that names the line."""
    try:
        yield
    except _FAILURES as error:
        line = getattr(error, "lineno", None)
        if template is not None:
            line = _line(template, error.__traceback__) or line
        where = "the chat template" if line is None else f"line {line} of the chat template"
        over = isinstance(error, OverBoundsError | RecursionError)
        kind = TemplateBoundsError if over else TemplateError
        raise kind(f"{where}: {_words(error)}") from error


def _words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = error.message if isinstance(error, jinja2.TemplateError) else str(error)
    return text or type(error).__name__


def _line(template: jinja2.Template, traceback: TracebackType | None) -> int | None:
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("environment") is template.environment:
            line = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line
