"""Where an answer goes on that a conversation ends with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from corral_chat.bounds import FAILURES, OverBoundsError
from corral_kernel.contracts import Message

MARK: Final = "\ue000THE-ANSWER-GOES-ON-HERE\ue001"

_OPEN_THOUGHTS: Final = {
    "<think>": "</think>",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "<|START_THINKING|>": "<|END_THINKING|>",
}

Render = Callable[[Sequence[Message], bool], str]


def begun(render: Render, messages: Sequence[Message]) -> str:
    """Render a conversation up to the end of its last message, an answer that is not finished.

    The answer is rendered as one of earlier turns would be, and cut where its text ends. Where a
    template does not show it so, its text follows what asks for an answer, as llama.cpp has it.

    Args:
        render: Renders messages; with True it asks for an answer behind them.
        messages: The last one is the assistant's, without calls.
    """
    *before, last = messages
    if not last.content and not last.thinking:
        return render(before, True)  # noqa: FBT003 - a plain function type has no names
    marked = (
        msgspec.structs.replace(last, content=last.content + MARK)
        if last.content
        else msgspec.structs.replace(last, thinking=last.thinking + MARK)
    )
    whole = _rendered(render, [*before, marked])
    if MARK in whole:
        return whole[: whole.rindex(MARK)]
    return _behind(render(before, True), last)  # noqa: FBT003 - likewise


def _rendered(render: Render, messages: Sequence[Message]) -> str:
    try:
        return render(messages, False)  # noqa: FBT003 - likewise
    except OverBoundsError:
        raise
    except FAILURES:
        return ""


def _behind(asked: str, last: Message) -> str:
    """Put an answer behind what asks for it; a thought that is open there ends before the text."""
    close = next((c for o, c in _OPEN_THOUGHTS.items() if asked.rstrip().endswith(o)), None)
    if close is None:
        return asked + last.content
    space = asked[len(asked.rstrip()) :]
    if not last.content:
        return asked + last.thinking
    return f"{asked}{last.thinking}{space}{close}{space * 2}{last.content}"
