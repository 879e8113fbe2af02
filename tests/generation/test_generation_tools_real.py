"""Calls of tools that a small real model is made to write, and thoughts that are closed in time."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from corral_kernel.contracts import ToolChoice

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]

TEMPLATE = """{{- if or .System .Tools }}<|im_start|>system
{{ .System }}{{ if .Tools }}You may call one of these functions:
{{ range .Tools }}{{ json .Function }}
{{ end }}{{ end }}<|im_end|>
{{ end }}{{ range .Messages }}<|im_start|>{{ .Role }}
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}
{{- if .ToolCalls }}%s{{ end }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
OBJECT = '{"name": "{{ .Function.Name }}", "%s": {{ .Function.Arguments }}}'
WAYS = {
    "tags": "<tool_call>\n{{ range .ToolCalls }}%s\n{{ end }}</tool_call>" % (OBJECT % "arguments"),
    "bare": "{{ range .ToolCalls }}%s{{ end }}" % (OBJECT % "parameters"),
    "list": "[TOOL_CALLS] [{{ range .ToolCalls }}%s{{ end }}]" % (OBJECT % "arguments"),
    "name": "{{ range .ToolCalls }}[TOOL_CALLS]{{ .Function.Name }}[ARGS]"
    "{{ .Function.Arguments }}{{ end }}",
}


def tool(name: str, properties: dict[str, Any], required: list[str] | None = None) -> Any:
    names = [*properties] if required is None else required
    parameters = {"type": "object", "properties": properties, "required": names}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


CITY = {"type": "string", "maxLength": 12}
DAYS = {"type": "integer", "minimum": 1, "maximum": 14}
TOOLS = {
    "text and number": tool("get_weather", {"city": CITY, "days": DAYS}, ["city"]),
    "choices": tool(
        "set_light", {"room": {"enum": ["hall", "kitchen"]}, "on": {"type": "boolean"}}
    ),
    "nested": tool(
        "plan_route",
        {
            "stops": {"type": "array", "items": CITY, "minItems": 1, "maxItems": 3},
            "car": {"type": "object", "properties": {"seats": DAYS}, "required": ["seats"]},
        },
    ),
    "date": tool("book", {"day": {"type": "string", "format": "date"}, "note": CITY}, ["day"]),
    "nothing": tool("stop", {}),
}
ASKED = "What is the weather in Oslo, and how do I get there?"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def smol(kernel: Any, smollm2: Path) -> AsyncIterator[Any]:
    """The kernel, with SmolLM2 under each way to write calls."""
    for name, way in WAYS.items():
        template = TEMPLATE % way
        kernel.create(name, smollm2, template=template, parameters={"num_ctx": 2048})
    yield kernel


async def asked(smol: Any, model: str, **given: Any) -> Any:
    return await smol.chat(
        model, ASKED, **{"temperature": 1.0, "num_predict": 400, "think": False, **given}
    )


def called(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    """The whole calls of an answer."""
    names = {part.index: part.name for part in answer.calls if part.name}
    texts = {i: "".join(p.arguments for p in answer.calls if p.index == i) for i in names}
    whole = {part.index for part in answer.calls if part.last}
    return [(names[i], json.loads(texts[i])) for i in sorted(whole)]


REQUIRED = ToolChoice(mode="required")


@pytest.mark.parametrize("model", WAYS)
@pytest.mark.parametrize("kind", TOOLS)
async def test_forced_calls_satisfy_their_schemas(smol: Any, model: str, kind: str) -> None:
    """100 seeds, over the twenty combinations."""
    for seed in range(5):
        given = {"tools": (TOOLS[kind],), "tool_choice": REQUIRED, "seed": seed}
        answer = await asked(smol, model, **given)
        assert answer.reason == "stop", answer.text
        calls = called(answer)
        assert calls
        assert not answer.text
        function = TOOLS[kind]["function"]
        for name, arguments in calls:
            assert name == function["name"]
            jsonschema.validate(arguments, function["parameters"])


async def test_calls_of_another_model_satisfy_theirs(kernel: Any, gemma3: Path) -> None:
    template = TEMPLATE % WAYS["bare"]
    kernel.create("gemma", gemma3, template=template, parameters={"num_ctx": 1024})
    parameters = TOOLS["nested"]["function"]["parameters"]
    for seed in range(3):
        given = {"tools": (TOOLS["nested"],), "tool_choice": REQUIRED, "seed": seed}
        ((_, arguments),) = called(await asked(kernel, "gemma", **given))
        jsonschema.validate(arguments, parameters)


async def test_of_several_tools_a_named_one_is_called(smol: Any) -> None:
    tools = tuple(TOOLS.values())
    for wanted in tools[:3]:
        name = wanted["function"]["name"]
        choice = ToolChoice(mode="required", name=name)
        answer = await asked(smol, "tags", tools=tools, tool_choice=choice, seed=1)
        ((found, arguments),) = called(answer)
        assert found == name
        jsonschema.validate(arguments, wanted["function"]["parameters"])


async def test_a_call_that_the_limit_cuts_ends_as_length_and_its_text_is_kept(smol: Any) -> None:
    for tokens in (1, 5, 12):
        given = {"tools": (TOOLS["nested"],), "tool_choice": REQUIRED, "num_predict": tokens}
        answer = await asked(smol, "tags", **given)
        assert answer.reason == "length"
        assert called(answer) == []
        assert answer.text.startswith("<tool_call>"[: len(answer.text)])
        assert answer.text or answer.calls


async def test_with_a_choice_of_none_nothing_is_called(smol: Any) -> None:
    for model in WAYS:
        for seed in range(3):
            choice = ToolChoice(mode="none")
            given = {"tools": tuple(TOOLS.values()), "tool_choice": choice, "seed": seed}
            answer = await asked(smol, model, num_predict=40, **given)
            assert called(answer) == []


async def test_a_thought_is_closed_by_its_budget_and_an_answer_in_form_follows(smol: Any) -> None:
    schema = {"type": "object", "properties": {"city": CITY}, "required": ["city"]}
    form = json.dumps(schema).encode()
    for seed in range(3):
        given = {"think": True, "think_budget": 20, "format": form, "seed": seed}
        answer = await asked(smol, "tags", **given)
        thought = "".join(piece.thinking for piece in answer.pieces)
        assert thought
        assert answer.reason == "stop"
        jsonschema.validate(json.loads(answer.text), schema)
