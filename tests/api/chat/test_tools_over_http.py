"""Calls of tools over HTTP: what a model writes, and what a client gets."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Ask = Callable[..., httpx.Response]
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
FREE = {"constrain_tools": False}
OTHER = {"type": "function", "function": {"name": "other"}}


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def message(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()["message"]
    return told


def test_what_a_model_can_do_is_told(api: httpx.Client) -> None:
    listed = {m["name"]: m.get("capabilities") for m in api.get("/api/tags").json()["models"]}
    expected = {
        "plain": ["completion"],
        "tools": ["completion", "tools"],
        "thinks": ["completion", "thinking"],
        "both": ["completion", "tools", "thinking"],
    }
    for name, capabilities in expected.items():
        shown = api.post("/api/show", json={"model": f"says-{name}"}).json()
        assert shown["capabilities"] == capabilities
        assert listed[f"says-{name}:latest"] == capabilities


def test_a_call_is_an_object_of_the_message(say: Ask, weather: Any) -> None:
    answer = say("tools", f"Let me see. {CALL}", tools=[weather])
    told = message(answer)
    (call,) = told.pop("tool_calls")
    assert told == {"role": "assistant", "content": "Let me see. "}
    assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"])
    arguments = {"city": "Oslo"}
    assert call["function"] == {"index": 0, "name": "get_weather", "arguments": arguments}
    assert answer.json()["done_reason"] == "stop"


def test_in_a_stream_each_call_has_a_line_of_its_own_and_the_last_line_none(
    say: Ask, weather: Any
) -> None:
    streamed = lines(say("tools", f"Hm.{CALL}\n{CALL}", tools=[weather], stream=True))
    text = "".join(line["message"]["content"] for line in streamed)
    assert text == "Hm."
    with_calls = [line for line in streamed if "tool_calls" in line["message"]]
    assert [line["message"]["tool_calls"][0]["function"]["index"] for line in with_calls] == [0, 1]
    assert all(len(line["message"]["tool_calls"]) == 1 for line in with_calls)
    assert all(line["message"]["content"] == "" and not line["done"] for line in with_calls)
    assert streamed[-1]["done"]
    assert streamed[-1]["done_reason"] == "stop"
    assert not any("<" in line["message"]["content"] for line in streamed)


def test_arguments_keep_their_order_and_whole_numbers_stay_whole(say: Ask, weather: Any) -> None:
    arguments = '{"z": 1, "a": 12345678901234567890123, "m": 1.50, "n": {"y": [], "b": null}}'
    call = f'<tool_call>{{"name": "get_weather", "arguments": {arguments}}}</tool_call>'
    answer = say("tools", call, tools=[weather], options=FREE)
    written = '"arguments":{"z":1,"a":12345678901234567890123,"m":1.5,"n":{"y":[],"b":null}}'
    assert written in answer.text


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>',
        "<tool_call>{'name'}</tool_call>",
        '<tool_call>{"name": "get_weather", "argu',
    ],
    ids=["of an unknown tool", "no JSON", "cut off"],
)
def test_what_is_no_call_stays_text(say: Ask, weather: Any, text: str) -> None:
    told = message(say("tools", text, tools=[weather], options=FREE))
    assert told == {"role": "assistant", "content": text}


def test_without_tools_in_the_request_calls_are_text(say: Ask) -> None:
    assert message(say("tools", CALL)) == {"role": "assistant", "content": CALL}


def test_a_choice_of_none_never_calls_and_shows_no_tools(
    say: Ask, weather: Any, api: httpx.Client
) -> None:
    told = message(say("tools", CALL, tools=[weather], tool_choice="none"))
    assert told == {"role": "assistant", "content": CALL}


def test_a_call_that_begins_is_held_to_its_schema(say: Ask, search: Any) -> None:
    wrong = '<tool_call>\n{"name": "search", "arguments": {"q": "stars", "most": 77}}\n</tool_call>'
    (call,) = message(say("tools", wrong, tools=[search]))["tool_calls"]
    assert call["function"]["arguments"]["q"] in ("sun", "moon")
    assert call["function"]["arguments"]["most"] <= 9


def test_a_schema_that_cannot_be_kept_is_told_and_calls_stay_free(say: Ask, weather: Any) -> None:
    odd = {"type": "object", "properties": {"a": {"type": "string"}}, "not": {"required": ["b"]}}
    tool = {"type": "function", "function": {"name": "odd", "parameters": odd}}
    answer = say("tools", CALL, tools=[weather, tool])
    assert message(answer)["tool_calls"][0]["function"]["name"] == "get_weather"
    assert "not held to the schemas" in answer.json()["warnings"][0]
    forced = say("tools", CALL, tools=[weather, tool], tool_choice="required")
    assert forced.status_code == 400
    assert "no call of a tool can be forced" in forced.json()["error"]


def test_a_required_call_comes_whatever_the_model_would_say(
    say: Ask, weather: Any, search: Any
) -> None:
    tools = [weather, search]
    told = message(say("tools", "I would rather not.", tools=tools, tool_choice="required"))
    assert told["content"] == ""
    (call,) = told["tool_calls"]
    assert call["function"]["name"] in ("get_weather", "search")
    named = {"type": "function", "function": {"name": "search"}}
    told = message(say("tools", "I would rather not.", tools=tools, tool_choice=named))
    (call,) = told["tool_calls"]
    assert call["function"]["name"] == "search"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("tokens", "text"),
    [(30, CALL[:30]), (60, '{"name": "get_weather", "arguments": {"city": "O')],
    ids=["in the name", "in the arguments"],
)
def test_a_call_that_is_cut_short_ends_as_length_and_is_no_call(
    say: Ask, weather: Any, tokens: int, text: str, *, stream: bool
) -> None:
    answer = say("tools", CALL, tools=[weather], options={"num_predict": tokens}, stream=stream)
    told = lines(answer)
    assert told[-1]["done_reason"] == "length"
    assert "".join(line["message"]["content"] for line in told).rstrip() == text
    assert not any("tool_calls" in line["message"] for line in told)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"tool_choice": "often"}, "invalid tool_choice (must be"),
        ({"tool_choice": {"type": "function"}}, "invalid tool_choice (must be"),
        ({"tool_choice": "required"}, "tool_choice asks for a call, and the request has no tools"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "x"}}, "tools": [OTHER]},
            "tool_choice names 'x', which is none of the request's tools",
        ),
    ],
    ids=["no choice", "no name", "no tools", "not among them"],
)
def test_a_choice_that_makes_no_sense_is_refused(
    say: Ask, fields: dict[str, Any], error: str
) -> None:
    answer = say("tools", "hi", **fields)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(error)


def test_tools_need_a_model_that_has_a_place_for_them(say: Ask, weather: Any) -> None:
    answer = say("plain", "hi", tools=[weather])
    assert answer.status_code == 400
    name = "registry.ollama.ai/library/says-plain:latest"
    assert answer.json() == {"error": f"{name} does not support tools"}


def test_calls_and_results_are_shown_to_the_model_again(api: httpx.Client, weather: Any) -> None:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}}
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
    ]
    body = {"model": "says-tools", "messages": messages, "tools": [weather], "stream": False}
    rendered = api.post("/api/chat", json={**body, "_debug_render_only": True}).json()
    written = '<tool_call>\n{"name": "get_weather", "arguments": {"city":"Oslo","days":3}}\n'
    assert rendered["_debug_info"]["rendered_template"] == f"{written}</tool_call>sunny"


def test_generate_tells_calls_in_its_last_object_and_without_ids(
    api: httpx.Client, say: Ask
) -> None:
    body = {"model": "says-parser", "from": "says-plain", "parser": "qwen3", "stream": False}
    api.post("/api/create", json=body).raise_for_status()
    call = {"function": {"index": 0, "name": "get_weather", "arguments": {"city": "Oslo"}}}
    whole = say("parser", f"a {CALL}", "/api/generate").json()
    assert (whole["response"], whole["tool_calls"]) == ("a", [call])
    streamed = lines(say("parser", f"a {CALL}", "/api/generate", stream=True))
    assert [line.get("tool_calls") for line in streamed if "tool_calls" in line] == [[call]]
    assert streamed[-1]["tool_calls"] == [call]


def test_logprobs_of_what_is_held_back_come_with_empty_content(say: Ask, weather: Any) -> None:
    streamed = lines(say("tools", CALL, tools=[weather], stream=True, logprobs=True))
    held = [line for line in streamed if line.get("logprobs")]
    assert all(line["message"]["content"] == "" for line in held)
    told = "".join(token["token"] for line in held for token in line["logprobs"])
    assert told.startswith(CALL)
