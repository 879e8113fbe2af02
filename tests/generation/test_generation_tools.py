"""Calls and thoughts of models whose Jinja template alone tells how they write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.contracts import ToolChoice

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAYS = "{{ messages[-1].content }}{{ '' if tools }}"
TEMPLATES = {
    "hermes": SAYS + "{# <tool_call></tool_call> <think></think> #}",
    "bare": SAYS,
    "open": SAYS + "<think>\n{# </think> #}",
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"at": {"enum": ["sun", "moon"]}},
            "required": ["at"],
        },
    },
}
CALL = '{"name": "look", "arguments": {"at": "moon"}}'
ECHO = {"backend": "echo", "seed": 3, "num_predict": 200}


@pytest.fixture(scope="module")
def says(kernel: Any, models: Path, with_template: Callable[..., bytes]) -> Any:
    """The kernel, with models of the echo backend that have a Jinja template alone."""
    data = (models / "tiny-chat-f32.gguf").read_bytes()
    for name, template in TEMPLATES.items():
        kernel.create(name, with_template(data, template), parameters={"num_ctx": 256})
    return kernel


def called(answer: Any) -> list[tuple[str, Any]]:
    text = "".join(part.arguments for part in answer.calls)
    return [(part.name, json.loads(text)) for part in answer.calls if part.name]


@pytest.mark.parametrize(
    ("model", "text"),
    [("hermes", f"Hm. <tool_call>\n{CALL}\n</tool_call>"), ("bare", CALL)],
)
async def test_a_call_is_read_as_the_template_s_family_writes_it(
    says: Any, model: str, text: str
) -> None:
    answer = await says.chat(model, text, tools=(TOOL,), think=False, **ECHO)
    assert called(answer) == [("look", {"at": "moon"})]
    assert answer.text == text.partition(" <tool_call>" if model == "hermes" else "{")[0]


@pytest.mark.parametrize("model", ["hermes", "bare"])
async def test_a_call_is_forced_as_that_family_writes_it(says: Any, model: str) -> None:
    given = {"tools": (TOOL,), "tool_choice": ToolChoice(mode="required"), "think": False}
    answer = await says.chat(model, "I would not.", **given, **ECHO)
    ((name, arguments),) = called(answer)
    assert name == "look"
    assert arguments["at"] in ("sun", "moon")
    assert answer.text == ""


async def test_a_template_that_begins_a_thought_has_it_told_apart(says: Any) -> None:
    answer = await says.chat("open", "Hm.</think>Yes.", **ECHO)
    thought = "".join(piece.thinking for piece in answer.pieces)
    assert (thought, answer.text) == ("Hm.", "Yes.<think>")
