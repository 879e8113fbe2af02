"""Calls of tools, whose parts come one by one and go out whole."""

from typing import Any

import msgspec

from corral_api.wire.numbers import go_json
from corral_api.wire.responses import ToolCall, ToolCallFunction
from corral_kernel import frames
from corral_kernel.errors import OutputError

_SHOWN_CHARS = 1000


class Calls:
    """Gathers calls."""

    def __init__(self) -> None:
        self._parts: list[frames.ToolCall] = []
        self._whole: list[ToolCall] = []

    def add(self, part: frames.ToolCall) -> None:
        """Take a part.

        Raises:
            OutputError: If it is the last of a call whose arguments are no JSON object.
        """
        self._parts.append(part)
        if part.last:
            self._whole.append(_joined(self._parts))
            self._parts.clear()

    def cut(self) -> str:
        """Give as text what there is of a call that the answer's end cuts, once."""
        if not self._parts:
            return ""
        arguments = "".join(part.arguments for part in self._parts)
        name = msgspec.json.encode(self._parts[0].name).decode()
        self._parts.clear()
        return f'{{"name": {name}, "arguments": {arguments}'

    def take(self) -> list[ToolCall]:
        """Give the calls that are whole, each once."""
        whole = self._whole.copy()
        self._whole.clear()
        return whole


def _joined(parts: list[frames.ToolCall]) -> ToolCall:
    first = parts[0]
    text = "".join(part.arguments for part in parts) or "{}"
    try:
        arguments = go_json(msgspec.json.decode(text, type=dict[str, Any]))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise OutputError(
            f"error parsing tool call: raw='{text[:_SHOWN_CHARS]}', err={error}"
        ) from None
    function = ToolCallFunction(index=first.index, name=first.name, arguments=arguments)
    return ToolCall(id=first.id, function=function)
