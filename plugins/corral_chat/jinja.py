"""Renders conversations by Jinja templates, as transformers does where there are no tools."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from types import TracebackType
from typing import Any

import jinja2
import msgspec

from corral_chat.bounds import OverBoundsError, check_chars, start
from corral_chat.environment import ChatEnvironment, RefusedError
from corral_kernel.contracts import Conversation, Message
from corral_kernel.errors import TemplateBoundsError, TemplateError

MAX_TEMPLATE_CHARS = 64 * 1024
COMPILED_TEMPLATES = 16
"""So many are kept compiled."""
_MAX_DATE_FORMAT_CHARS = 100

# What a template can raise. No broader: who interrupts a rendering does so by an exception.
_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)


def render(template: str, conversation: Conversation) -> str:
    """Render a conversation.

    As llama.cpp has it, an assistant's message at the end is one to go on with: it follows the text
    that asks for an answer.

    Raises:
        TemplateError: If the template does not parse, fails, or is over the bounds.
    """
    messages, begun = conversation.messages, ""
    if messages and messages[-1].role == "assistant" and not messages[-1].tool_calls:
        messages, begun = messages[:-1], messages[-1].content
    with _told():
        compiled = _compiled(template)
    with _told(compiled):
        try:
            rendered = _run(compiled, _variables(conversation, messages))
        except RefusedError:
            folded = _without_system(messages)
            if folded is None:
                raise
            rendered = _run(compiled, _variables(conversation, folded))
    return rendered + begun


def _without_system(messages: Sequence[Message]) -> Sequence[Message] | None:
    """Put a leading system message into the user's first; None where there is no such pair.

    Some models know no system messages and their templates refuse them. llama.cpp does the same.
    """
    if [message.role for message in messages[:2]] != ["system", "user"]:
        return None
    system, user = messages[:2]
    content = f"{system.content}\n{user.content}"
    return [msgspec.structs.replace(user, content=content), *messages[2:]]


@cache
def _environment() -> ChatEnvironment:
    return ChatEnvironment()


@lru_cache(COMPILED_TEMPLATES)
def _compiled(template: str) -> jinja2.Template:
    _check_length(template)
    return _environment().load(template)


def _check_length(template: str) -> None:
    if len(template) > MAX_TEMPLATE_CHARS:
        raise OverBoundsError(
            f"it has {len(template):,} characters: at most {MAX_TEMPLATE_CHARS:,} are read"
        )


def _run(template: jinja2.Template, given: dict[str, Any]) -> str:
    start()
    pieces: list[str] = []
    chars = 0
    for piece in template.root_render_func(template.new_context(given)):
        pieces.append(piece)
        chars += len(piece)
        check_chars(chars)
    return "".join(pieces)


def _variables(conversation: Conversation, messages: Sequence[Message]) -> dict[str, Any]:
    def strftime_now(form: str) -> str:
        if len(form) > _MAX_DATE_FORMAT_CHARS:
            raise OverBoundsError(f"a date format of over {_MAX_DATE_FORMAT_CHARS} characters")
        return dt.datetime.fromtimestamp(conversation.now).astimezone().strftime(form)

    return {
        "messages": [_fields(message) for message in messages],
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
        "bos_token": conversation.bos,
        "eos_token": conversation.eos,
        "strftime_now": strftime_now,
    }


def _fields(message: Message) -> dict[str, Any]:
    """Give a message as templates know it; thoughts of earlier turns are not shown to them."""
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        fields["tool_calls"] = list(message.tool_calls)
    if message.tool_name:
        fields["name"] = message.tool_name
    if message.tool_call_id:
        fields["tool_call_id"] = message.tool_call_id
    return fields


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
