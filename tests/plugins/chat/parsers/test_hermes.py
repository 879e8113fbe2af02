"""Hermes and Qwen: JSON between tags, and thoughts before it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_chat.parsing.families import families
from corral_kernel.contracts import AnswerSpec, CallPart, ChatParser, Constrained, Free, Message
from corral_kernel.testing.parsers import Read, Unsaid, check_reading, check_truncation, read

HERMES, QWEN3 = (next(f for f in families() if f.name == name) for name in ("hermes", "qwen3"))
THINKING = next(f for f in families() if f.name == "qwen3-thinking")
OSLO = ("get_weather", {"city": "Oslo"})
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'

ANSWERS: dict[str, tuple[str, Read]] = {
    "plain": ("Hello there.", Read("Hello there.")),
    "call": (CALL, Read(calls=(OSLO,))),
    "text and call": (f"Let me look.\n{CALL}", Read("Let me look.", calls=(OSLO,))),
    "two calls": (f"{CALL}\n{CALL}", Read(calls=(OSLO, OSLO))),
    "text behind a call": (f"{CALL}\n\nThat is all.", Read("That is all.", calls=(OSLO,))),
    "thought": ("<think>\nHm.\n</think>\n\nYes.", Read("Yes.", "Hm.")),
    "thought, then a call": (f"<think>Hm.</think>{CALL}", Read("", "Hm.", (OSLO,))),
    "a thought that a call ends": (f"<think>Hm. {CALL}", Read("", "Hm.", (OSLO,))),
    "no thought": ("  Yes <think>", Read("  Yes <think>")),
    "an unknown tool": (
        '<tool_call>{"name": "x", "arguments": {}}</tool_call>',
        Read(calls=(("x", {}),)),
    ),
    "no JSON": ("<tool_call>\n{'a'}\n</tool_call>", Read("<tool_call>\n{'a'}\n</tool_call>")),
    "no object": ("a <tool_call> b", Read("a <tool_call> b")),
    "parameters, as a text": (
        '<tool_call>{"name": "search", "parameters": "{\\"q\\": 1}"}</tool_call>',
        Read(calls=(("search", {"q": 1}),)),
    ),
    "the end mark in a text": (
        '<tool_call>{"name": "search", "arguments": {"q": "</tool_call> }{"}}</tool_call>',
        Read(calls=(("search", {"q": "</tool_call> }{"}),)),
    ),
    "no end mark": (CALL.removesuffix("</tool_call>"), Read(calls=(OSLO,))),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_the_same_however_it_is_cut(name: str, spec: AnswerSpec) -> None:
    text, expected = ANSWERS[name]
    assert check_reading(HERMES, spec, text) == expected


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_breaks_off_loses_nothing(name: str, spec: AnswerSpec) -> None:
    marks = frozenset({"<think>", "</think>"})
    unsaid = Unsaid(marks, frozenset({"}", "</tool_call>"}))
    check_truncation(HERMES, spec, ANSWERS[name][0], unsaid)


def test_a_prompt_that_begins_a_thought_has_the_answer_begin_in_it(spec: AnswerSpec) -> None:
    inside = msgspec.structs.replace(spec, prompt_end="<|im_start|>assistant\n<think>\n")
    assert check_reading(HERMES, inside, "Hm.\n</think>\nYes.") == Read("Yes.", "Hm.")
    assert check_reading(THINKING, spec, "Hm.\n</think>\nYes.") == Read("Yes.", "Hm.")


def test_an_assistant_message_that_goes_on_has_no_thought(spec: AnswerSpec) -> None:
    begun = msgspec.structs.replace(spec, last=Message(role="assistant", content="Yes, "))
    assert check_reading(THINKING, begun, "<think>no</think>") == Read("<think>no</think>")


def test_where_calls_do_not_count_they_are_text(spec: AnswerSpec) -> None:
    none = msgspec.structs.replace(spec, calls=False)
    assert check_reading(HERMES, none, CALL) == Read(CALL)


def test_text_is_held_only_while_it_may_be_a_mark(spec: AnswerSpec) -> None:
    parser = QWEN3.start(spec)
    shown = ["".join(e.text for e in parser.feed(piece)) for piece in ("a <", "b", " <tool", "s>")]  # type: ignore[union-attr]
    assert shown == ["a", " <b", "", " <tools>"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.text(), VALUES, max_size=4), cut=st.integers(0, 200))
@settings(max_examples=50, deadline=None)
def test_arguments_of_any_kind_come_out_as_they_were(
    arguments: Mapping[str, Any], cut: int
) -> None:
    spec = AnswerSpec(calls=True)
    call = msgspec.json.encode({"name": "f", "arguments": arguments}).decode()
    text = f"<tool_call>{call}</tool_call>"
    found = read(QWEN3, spec, [text[:cut], text[cut:]])
    assert found == Read(calls=(("f", dict(arguments)),))


def plan_ends(parser: ChatParser, spec: AnswerSpec) -> list[str]:
    plan = parser.plan(spec)
    assert plan is not None
    return [step.until if isinstance(step, Free) else type(step).__name__ for step in plan.steps]


def test_a_forced_call_follows_a_thought_where_the_model_thinks(spec: AnswerSpec) -> None:
    forced = msgspec.structs.replace(spec, force_call=True)
    call = ["Literal", "Constrained", "Literal"]
    assert plan_ends(HERMES, forced) == ["Literal", "</think>", "Literal", *call]
    assert plan_ends(THINKING, forced) == ["</think>", "Literal", *call]
    assert plan_ends(QWEN3, forced) == call


def test_nothing_rules_an_answer_without_tools_budget_or_format() -> None:
    assert HERMES.plan(AnswerSpec(think=True)) is None


WRITTEN = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'


def parts(spec: AnswerSpec, text: str) -> list[Any]:
    output = HERMES.start(spec)
    return [event for piece in text for event in output.feed(piece)]


def test_arguments_that_are_held_to_a_schema_are_passed_on_as_they_come(spec: AnswerSpec) -> None:
    found = parts(spec, f"<tool_call>\n{WRITTEN}\n</tool_call>")
    assert [part.name for part in found[:2]] == ["get_weather", ""]
    assert "".join(part.arguments for part in found) == '{"city": "Oslo"}'
    assert [part.last for part in found].index(True) == len(found) - 1
    assert len(found) == len('{"city": "Oslo"}')


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"constrain_tools": False}, f"<tool_call>\n{WRITTEN}"),
        ({"answer": Constrained(kind="json", format=b'"json"')}, f"<tool_call>\n{WRITTEN}"),
        ({}, f"<tool_call>\n{WRITTEN.replace(': ', ':')}"),
        ({}, f"<think>Hm. <tool_call>\n{WRITTEN}"),
    ],
    ids=["schemas do not hold", "a format holds", "otherwise written", "within a thought"],
)
def test_arguments_that_may_turn_out_to_be_none_come_whole(
    spec: AnswerSpec, changes: dict[str, Any], text: str
) -> None:
    found = parts(msgspec.structs.replace(spec, **changes), text)
    (call,) = [event for event in found if isinstance(event, CallPart)]
    assert (call.name, call.arguments, call.last) == ("get_weather", '{"city":"Oslo"}', True)


def test_a_call_that_the_end_cuts_has_no_last_part(spec: AnswerSpec) -> None:
    output = HERMES.start(spec)
    begun = output.feed('<tool_call>\n{"name": "get_weather", "arguments": {"ci')
    assert list(begun) == [CallPart(0, "get_weather", '{"ci', last=False)]
    assert not output.finish("length")
