"""What each family's models write, through the API: said by the echo backend, as in its table."""

import json
import runpy
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral_chat.parsing.families import families

TESTS = Path(__file__).parents[2]
TABLE = runpy.run_path(str(TESTS / "plugins" / "chat" / "parsers" / "familycases.py"))
CASES: list[tuple[str, str, Any]] = TABLE["ANSWERS"]
CAPABILITIES = {family.name: family.capabilities for family in families()}


def tool(name: str, **types: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in types.items()}
    parameters = {"type": "object", "properties": properties, "required": [*properties][:1]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("get_weather", city="string", days="integer"), tool("search", q="string")]


@pytest.fixture(scope="module")
def families_api(api: httpx.Client) -> httpx.Client:
    for name in sorted({name for name, _, _ in CASES}):
        body = {"model": f"of-{name}", "from": "says-plain", "parser": name, "stream": False}
        api.post("/api/create", json=body).raise_for_status()
    return api


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("name", "text", "expected"),
    CASES,
    ids=[f"{name}-{number}" for number, (name, _, _) in enumerate(CASES)],
)
def test_an_answer_of_a_family_comes_out_as_its_table_says(
    families_api: httpx.Client, name: str, text: str, expected: Any, *, stream: bool
) -> None:
    body: dict[str, Any] = {
        "model": f"of-{name}",
        "messages": [{"role": "user", "content": text}],
        "stream": stream,
        "options": {"constrain_tools": False},
    }
    if "thinking" in CAPABILITIES[name]:
        body["think"] = True
    if "tools" in CAPABILITIES[name]:
        body["tools"] = TOOLS
    answer = families_api.post("/api/chat", json=body)
    assert answer.status_code == 200, answer.text
    told = [json.loads(line) for line in answer.text.splitlines()]
    messages = [line["message"] for line in told]
    assert "".join(message["content"] for message in messages) == expected.content
    assert "".join(message.get("thinking", "") for message in messages) == expected.thinking
    calls = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    assert tuple((call["name"], call["arguments"]) for call in calls) == expected.calls
    assert [call["index"] for call in calls] == [*range(len(calls))]
    assert told[-1]["done_reason"] == "stop"


CUT = {
    "harmony": (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant",
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>",
        '{"city": "Oslo"}',
    ),
    "glimmer": (
        " to=self<|message|>Hm.<|eom|><|start|>assistant",
        " to=get_weather<|message|>",
        '<atem:function_calls>\n<atem:invoke name="get_weather">\n',
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("kept", ["name", "header", "arguments"])
def test_a_call_with_a_header_that_a_limit_cuts_is_text_with_its_name(
    families_api: httpx.Client, name: str, kept: str, *, stream: bool
) -> None:
    before, header, arguments = CUT[name]
    wanted = {
        "name": header[: header.index("weather")],
        "header": header,
        "arguments": header + arguments[:-1],
    }[kept]
    body = {
        "model": f"of-{name}",
        "messages": [{"role": "user", "content": before + header + arguments}],
        "stream": stream,
        "think": True,
        "tools": TOOLS,
        "options": {"constrain_tools": False, "num_predict": len(before + wanted)},
    }
    answer = families_api.post("/api/chat", json=body)
    told = [json.loads(line) for line in answer.text.splitlines()]
    assert told[-1]["done_reason"] == "length"
    messages = [line["message"] for line in told]
    assert "".join(message.get("thinking", "") for message in messages) == "Hm."
    content = "".join(message["content"] for message in messages)
    assert content == f"<|start|>assistant{wanted}"
    assert not any("tool_calls" in message for message in messages)
