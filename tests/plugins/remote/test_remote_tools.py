"""Tools and thinking of models on other servers."""

from typing import Any

import pytest

from corral_kernel.contracts import CallPart, Message, Piece, ToolChoice
from corral_kernel.errors import RemoteServerError

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def delta(index: int | None, name: str | None = None, arguments: str | None = None) -> Any:
    call = {"index": index, "id": "x", "function": {"name": name, "arguments": arguments}}
    return {"choices": [{"index": 0, "delta": {"content": None, "tool_calls": [call]}}]}


async def asked(lab: Any, request: Any) -> dict[str, Any]:
    async with lab.serving(lab.HELLO) as server, lab.loaded(server.url) as engine:
        await lab.answer(engine, request)
        body: dict[str, Any] = server.asked[0].body
        return body


async def test_tools_and_choice_are_passed_on(lab: Any) -> None:
    body = await asked(lab, lab.chat(tools=(TOOL,)))
    assert body["tools"] == [TOOL]
    assert "tool_choice" not in body
    for choice, words in (
        (ToolChoice(mode="none"), "none"),
        (ToolChoice(mode="required"), "required"),
        (
            ToolChoice(mode="required", name="f"),
            {"type": "function", "function": {"name": "f"}},
        ),
    ):
        assert (await asked(lab, lab.chat(tools=(TOOL,), tool_choice=choice)))[
            "tool_choice"
        ] == words
    assert "tools" not in await asked(lab, lab.chat())


@pytest.mark.parametrize(
    ("think", "fields"),
    [
        (None, {}),
        ("low", {"reasoning_effort": "low"}),
        ("max", {"reasoning_effort": "high"}),
        (False, {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
    ],
    ids=["not said", "low", "max", "no"],
)
async def test_thinking_is_passed_on_if_it_is_said(lab: Any, think: Any, fields: Any) -> None:
    body = await asked(lab, lab.chat(think=think))
    names = ("reasoning_effort", "chat_template_kwargs")
    assert {name: body[name] for name in names if name in body} == fields


async def test_calls_and_results_of_earlier_turns_have_ids(lab: Any) -> None:
    def call(name: str, **more: Any) -> dict[str, Any]:
        return {"function": {"name": name, "arguments": {"a": "ö"}}, **more}

    messages = (
        Message(role="user", content="?"),
        Message(role="assistant", tool_calls=(call("f"), call("g"), call("h", id="mine"))),
        Message(role="tool", content="2", tool_name="g"),
        Message(role="tool", content="1"),
        Message(role="tool", content="3", tool_call_id="mine"),
    )
    body = await asked(lab, lab.chat(messages=messages))
    assistant, *results = body["messages"][1:]
    assert assistant["content"] is None
    assert [c["id"] for c in assistant["tool_calls"]] == ["call_0", "call_1", "mine"]
    assert assistant["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": "ö"}'}
    assert [r["tool_call_id"] for r in results] == ["call_1", "call_0", "mine"]


async def test_calls_come_whole_however_they_are_cut(lab: Any) -> None:
    pieces = [
        delta(0, "f", ""),
        delta(0, None, '{"a"'),
        delta(1, "g", '{"b": '),
        delta(0, None, ": 1}"),
        delta(1, None, "2}"),
    ]
    stream = lab.events(*map(lab.event, pieces), lab.said(reason="tool_calls"), lab.DONE)
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        heard = await lab.answer(engine)
    calls = (CallPart(0, "f", '{"a": 1}'), CallPart(1, "g", '{"b": 2}'))
    assert heard.pieces == [Piece(calls=calls)]
    assert heard.ending.reason == "stop"


async def test_a_call_that_the_limit_cuts_is_text(lab: Any) -> None:
    stream = lab.events(lab.event(delta(0, "f", '{"a')), lab.said(reason="length"), lab.DONE)
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        heard = await lab.answer(engine)
    assert heard.pieces == [Piece(content='f({"a')]
    assert heard.ending.reason == "length"


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([delta(0, "f", "x" * 1_000_000)] * 17, "have over 16777216 characters"),
        ([delta(index, "f", "{}") for index in range(1025)], "has over 1024 calls"),
    ],
    ids=["long", "many"],
)
async def test_calls_without_bounds_end_the_answer(lab: Any, pieces: Any, words: str) -> None:
    stream = lab.events(*map(lab.event, pieces), lab.said(reason="tool_calls"), lab.DONE)
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteServerError, match=words):
            await lab.answer(engine)
