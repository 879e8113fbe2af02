"""Thoughts over HTTP: apart from the answer, never half a tag, and closed in time."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Ask = Callable[..., httpx.Response]
SAID = "<think>\nLet me see. </think>\n\nYes."
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


def message(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()["message"]
    return told


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("think", [None, True, "low"], ids=["not said", "true", "a level"])
def test_a_model_that_can_think_does(say: Ask, think: Any) -> None:
    told = message(say("thinks", SAID, think=think))
    assert told == {"role": "assistant", "content": "Yes.", "thinking": "Let me see. "}
    generated = say("thinks", SAID, "/api/generate", think=think).json()
    assert (generated["response"], generated["thinking"]) == ("Yes.", "Let me see. ")


def test_with_think_false_nothing_is_read(say: Ask) -> None:
    assert message(say("thinks", SAID, think=False))["content"] == SAID


def test_a_stream_never_shows_a_part_of_a_tag(say: Ask) -> None:
    streamed = lines(say("thinks", SAID.replace("see", "<see> </thin"), stream=True))
    thoughts = [line["message"].get("thinking", "") for line in streamed]
    contents = [line["message"]["content"] for line in streamed]
    assert "".join(thoughts) == "Let me <see> </thin. "
    assert "".join(contents) == "Yes."
    assert "</think" not in thoughts
    first_content = next(place for place, text in enumerate(contents) if text)
    assert not any(thoughts[first_content + 1 :])


def test_a_prompt_that_begins_a_thought_has_the_answer_begin_in_it(say: Ask) -> None:
    told = message(say("thinks", "Hm.</think>Yes.<think>"))  # the echo says it all
    assert (told["thinking"], told["content"]) == ("Hm.", "Yes.<think>")
    raw = say("thinks", "Hm.</think>Yes.<think>", "/api/generate", raw=True).json()
    assert (raw["thinking"], raw["response"]) == ("Hm.", "Yes.<think>")


def test_a_budget_closes_the_thought_and_the_answer_goes_on(say: Ask) -> None:
    text = "<think>0123456789 and much more</think>\n\nYes."
    answer = say("thinks", text, options={"think_budget": 10})
    assert message(answer)["thinking"] == "0123456789"
    assert message(answer)["content"]
    unlimited = message(say("thinks", text))
    assert unlimited["thinking"] == "0123456789 and much more"
    assert unlimited["content"] == "Yes."


def test_a_budget_that_nothing_obeys_is_told(say: Ask) -> None:
    answer = say("plain", "hi", options={"think_budget": 10}).json()
    assert answer["warnings"] == ['option "think_budget" is ignored: the model is not to think']


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_a_format_holds_after_the_thought(say: Ask, path: str) -> None:
    answer = say("thinks", SAID.removeprefix("<think>"), path, format=SCHEMA).json()
    told = answer["message"] if path == "/api/chat" else answer
    content = told["content"] if path == "/api/chat" else told["response"]
    assert told["thinking"] == "Let me see. "
    assert json.loads(content)["ok"] in (True, False)


def test_a_format_holds_from_the_start_where_nothing_is_thought(say: Ask) -> None:
    told = message(say("thinks", SAID, format=SCHEMA, think=False))
    assert "thinking" not in told
    assert json.loads(told["content"])["ok"] in (True, False)


def test_a_model_that_cannot_think_is_told_by_the_name_that_was_sent(say: Ask) -> None:
    for think in (True, "high"):
        answer = say("plain", "hi", think=think)
        assert answer.status_code == 400
        assert answer.json() == {"error": '"says-plain" does not support thinking'}
    assert message(say("plain", "hi", think=False))["content"] == "hi"


def test_an_old_model_that_could_think_is_told_to_be_pulled_again(
    api: httpx.Client,
) -> None:
    copied = {"source": "says-plain", "destination": "deepseek-r1:8b"}
    api.post("/api/copy", json=copied).raise_for_status()
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "deepseek-r1:8b", "messages": messages, "think": True, "stream": False}
    answer = api.post("/api/chat", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        '"deepseek-r1:8b" does not support thinking. '
        "Pull the model again to get the latest version with full thinking support"
    )


def test_a_thought_and_a_call_are_both_read(say: Ask, weather: Any) -> None:
    call = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
    said = f"<think>Look.</think>Wait. {call}"
    told = message(say("both", said, tools=[weather], options={"constrain_tools": False}))
    assert (told["thinking"], told["content"]) == ("Look.", "Wait. ")
    assert told["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}


def test_a_forced_call_comes_after_the_thought(say: Ask, weather: Any) -> None:
    said = "Look.</think>No."
    told = message(say("both", said, tools=[weather], tool_choice="required"))
    assert told["thinking"] == "Look."
    assert told["tool_calls"][0]["function"]["name"] == "get_weather"
    assert told["content"] == ""
