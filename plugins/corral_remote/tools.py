"""Tools and their calls, as OpenAI-compatible servers write them."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from corral_kernel.contracts.chat import Message
from corral_kernel.contracts.chat_parsers import CallPart
from corral_kernel.contracts.text import Piece, TextRequest
from corral_kernel.errors import RemoteServerError
from corral_remote.wire import CallDelta

MOST_CALLS: Final = 1024
MOST_CHARS: Final = 16 << 20  # of all calls of an answer, which are kept until it is over


def tool_fields(request: TextRequest) -> dict[str, Any]:
    """Give what a request says of tools."""
    if not request.tools:
        return {}
    choice = request.tool_choice
    asked: Any = choice.mode
    if choice.name:
        asked = {"type": "function", "function": {"name": choice.name}}
    return {
        "tools": [{**tool, "type": tool.get("type") or "function"} for tool in request.tools],
        **({} if choice.mode == "auto" else {"tool_choice": asked}),
    }


def think_fields(request: TextRequest) -> dict[str, Any]:
    """Give what a request says of thinking: levels as OpenAI has them, the rest as vLLM."""
    think = request.think
    if think is None:
        return {}
    if isinstance(think, str):
        return {"reasoning_effort": "high" if think == "max" else think}
    return {"chat_template_kwargs": {"enable_thinking": think, "thinking": think}}


def messages_of(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    """Give a conversation. Each call has an id there, and each result that of its call."""
    waiting: list[tuple[str, str]] = []  # names and ids of calls without a result
    made = 0
    for message in messages:
        fields: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            calls = []
            for call in message.tool_calls:
                function = call.get("function") or {}
                call_id, made = call.get("id") or f"call_{made}", made + 1
                waiting.append((function.get("name", ""), call_id))
                calls.append(_call(call_id, function))
            fields["tool_calls"] = calls
            fields["content"] = message.content or None
        if message.role == "tool":
            fields["tool_call_id"] = message.tool_call_id or _taken(waiting, message.tool_name)
        yield fields


def _call(call_id: str, function: dict[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    named = {"name": function.get("name", ""), "arguments": arguments}
    return {"id": call_id, "type": "function", "function": named}


def _taken(waiting: list[tuple[str, str]], name: str) -> str:
    """The id of the first call that waits for a result, of this tool if it is named."""
    place = next((i for i, (called, _) in enumerate(waiting) if not name or called == name), None)
    return "call_0" if place is None else waiting.pop(place)[1]


class HeardCalls:
    """Calls in pieces, as they come; of several their pieces may come in any order.

    Args:
        where: The base URL, for errors.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._names: dict[int, str] = {}
        self._arguments: dict[int, list[str]] = {}
        self._chars = 0

    def add(self, deltas: Sequence[CallDelta]) -> None:
        """Take pieces.

        Raises:
            RemoteServerError: If there are too many calls, or they are too long.
        """
        for place, delta in enumerate(deltas):
            index = place if delta.index is None else delta.index
            self._names[index] = self._names.get(index) or delta.function.name or ""
            arguments = delta.function.arguments or ""
            self._chars += len(arguments)
            self._arguments.setdefault(index, []).extend([arguments] if arguments else [])
        if len(self._names) > MOST_CALLS:
            raise RemoteServerError(f"an answer of {self._where} has over {MOST_CALLS} calls")
        if self._chars > MOST_CHARS:
            raise RemoteServerError(
                f"the calls in an answer of {self._where} have over {MOST_CHARS} characters"
            )

    def piece(self, *, whole: bool) -> Piece | None:
        """Give all calls, once the answer is over; None: there are none.

        Args:
            whole: Whether it ended by itself. If not, a call that is cut is text.
        """
        calls: list[CallPart] = []
        text = ""
        for index in sorted(self._names):
            name, arguments = self._names[index], "".join(self._arguments[index])
            if whole or _is_object(arguments):
                calls.append(CallPart(len(calls), name, arguments))
            else:
                text += f"{name}({arguments}"
        return Piece(content=text, calls=tuple(calls)) if calls or text else None


def _is_object(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
