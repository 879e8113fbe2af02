"""How a Jinja template wants its messages: found by rendering small conversations with it.

Templates disagree whether a content is a text or a list of parts, whether a call's arguments are an
object or its JSON text, and whether there are system messages. llama.cpp finds out in this way too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from corral_chat.bounds import FAILURES, OverBoundsError

_TEXT: Final = "MARK-OF-TEXT"
_ARGUMENT: Final = "MARK-OF-ARGUMENT"
_ARGUMENTS: Final = {"place": _ARGUMENT}
_REPR: Final = repr(_ARGUMENTS)
_ID: Final = "call00001"
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Finds",
        "parameters": {
            "type": "object",
            "required": ["place"],
            "properties": {"place": {"type": "string", "description": "Where"}},
        },
    },
}

Fields = dict[str, Any]
Render = Callable[[dict[str, Any]], str]


@dataclass
class Shape:
    """What one template wants; each answer is found when it is first asked for.

    Args:
        render: Renders the template with the given variables.
    """

    render: Render

    @cached_property
    def wants_parts(self) -> bool:
        """Whether a content is shown if it is a list of parts, and not if it is a text."""
        return not self._shows([_user(_TEXT)]) and self._shows([_user(_part(_TEXT))])

    @cached_property
    def knows_system(self) -> bool:
        """Whether system messages are shown."""
        question = _user(self._content("Hello"))
        system = {"role": "system", "content": self._content(_TEXT)}
        return self._shows([system, question]) or self._output([question]) is None

    @cached_property
    def wants_json_arguments(self) -> bool:
        """Whether a call's arguments are shown as they should be only if they are JSON text."""
        given = self._output(self._with_call(_ARGUMENTS), [_TOOL])
        if given is not None and _ARGUMENT in given and _REPR not in given:
            return False
        text = json.dumps(_ARGUMENTS)
        return text in (self._output(self._with_call(text), [_TOOL]) or "")

    @cached_property
    def absent_tools(self) -> list[Fields] | None:
        """What is given where there are no tools: none, but to who goes through them unasked."""
        question = [_user(self._content("Hello"))]
        if self._output(question) is None and self._output(question, []) is not None:
            return []
        return None

    def _content(self, text: str) -> Any:
        return _part(text) if self.wants_parts else text

    def _with_call(self, arguments: Any) -> list[Fields]:
        function = {"name": "find", "arguments": arguments}
        call = {"type": "function", "function": function, "id": _ID}
        return [
            _user(self._content("Hello")),
            {"role": "assistant", "content": self._content(""), "tool_calls": [call]},
            {"role": "tool", "content": self._content("x"), "name": "find", "tool_call_id": _ID},
            {"role": "assistant", "content": self._content("There.")},
            _user(self._content("Hello")),
        ]

    def _shows(self, messages: list[Fields]) -> bool:
        return _TEXT in (self._output(messages) or "")

    def _output(self, messages: list[Fields], tools: list[Fields] | None = None) -> str | None:
        """Render; None: it fails."""
        try:
            return self.render({"messages": messages, "tools": deepcopy(tools)})
        except OverBoundsError:
            raise  # and so would the real one
        except FAILURES:
            return None


def _user(content: Any) -> Fields:
    return {"role": "user", "content": content}


def _part(text: str) -> list[Fields]:
    return [{"type": "text", "text": text}]
