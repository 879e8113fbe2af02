"""Each family by what its models write: read whole, in pieces and broken off."""

import runpy
from pathlib import Path

import msgspec
import pytest

from corral_chat.parsing.families import families
from corral_chat.parsing.tables import Family
from corral_kernel.contracts import AnswerSpec, CallPart, Content, Message
from corral_kernel.errors import OutputError
from corral_kernel.testing.parsers import Read, Unsaid, check_reading, check_truncation, read

ANSWERS: list[tuple[str, str, Read]] = runpy.run_path(
    str(Path(__file__).with_name("familycases.py"))
)["ANSWERS"]
BY_NAME = {family.name: family for family in families()}
IDS = [f"{name}-{number}" for number, (name, _, _) in enumerate(ANSWERS)]
HEADERS = {
    "harmony": {
        *("<|start|>", "<|start|>assistant", "<|message|>", "<|end|>", "<|return|>", "<|call|>"),
        *("<|channel|>", "<|channel|>analysis", "<|channel|>commentary", "<|channel|>final"),
        "<|channel|>comment",  # the first token of two
        "<|channel|>final<|constrain|>json",
    },
    "glimmer": {
        *("<|start|>", "<|start|>assistant", "<|message|>", "<|eom|>", "<|eot|>"),
        *("to=", "to=self", "to=user"),
    },
}
"""All that answers in messages need not show."""


@pytest.mark.parametrize(("name", "text", "expected"), ANSWERS, ids=IDS)
def test_an_answer_of_a_family_is_read_the_same_however_it_is_cut(
    name: str, text: str, expected: Read, spec: AnswerSpec
) -> None:
    assert check_reading(BY_NAME[name], spec, text) == expected


def unsaid(name: str) -> Unsaid:
    """What a family need not show: marks of thoughts and ends, and those behind calls."""
    family = BY_NAME[name]
    if not isinstance(family, Family):
        return Unsaid(frozenset(HEADERS[name]))
    marks = {*family.dropped, *family.ends}
    if family.thinking is not None:
        marks |= {family.thinking.open, family.thinking.close}
    closers = {mark for calls in family.calls for mark in (calls.end, *calls.form.closers) if mark}
    return Unsaid(frozenset(marks), frozenset({"}", *closers}))


def ways_to_be_held(name: str, text: str) -> list[bool]:
    """Whether schemas hold calls, where it makes a difference: arguments then come in parts."""
    family = BY_NAME[name]
    if not isinstance(family, Family) or not any(c.form.head("f") for c in family.calls):
        return [True]
    return [False] if '"id": ' in text else [True, False]  # no schema lets a call have an id


@pytest.mark.parametrize(
    ("name", "text", "held"),
    [
        pytest.param(name, text, held, id=f"{name}-{number}-{'held' if held else 'free'}")
        for number, (name, text, _) in enumerate(ANSWERS)
        for held in ways_to_be_held(name, text)
    ],
)
def test_an_answer_of_a_family_that_breaks_off_loses_nothing(
    name: str, text: str, spec: AnswerSpec, *, held: bool
) -> None:
    asked = msgspec.structs.replace(spec, constrain_tools=held)
    check_truncation(BY_NAME[name], asked, text, unsaid(name))


@pytest.mark.parametrize(("name", "text", "expected"), ANSWERS, ids=IDS)
def test_an_answer_of_a_family_that_stops_early_loses_nothing_or_is_an_error(
    name: str, text: str, expected: Read, spec: AnswerSpec
) -> None:
    asked = msgspec.structs.replace(spec, constrain_tools=False)
    check_truncation(BY_NAME[name], asked, text, unsaid(name), "stop")
    assert read(BY_NAME[name], asked, list(text)) == expected


def test_every_family_is_in_the_table() -> None:
    assert {name for name, _, _ in ANSWERS} == set(BY_NAME)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_plain_text_stays_what_it_is(name: str, spec: AnswerSpec) -> None:
    text = "An answer, <b>with</b> [brackets] and {braces}, and nothing else."
    last = Message(role="assistant", content="So: ")
    assert (
        check_reading(BY_NAME[name], msgspec.structs.replace(spec, last=last), text).content == text
    )


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        (
            "qwen3-coder",
            "<tool_call>\n<function=>\n</function>\n</tool_call>",
            "empty function name",
        ),
        ("ministral", '[TOOL_CALLS]x[ARGS]{"a": 1}', "tool 'x' not found"),
        (
            "harmony",
            "<|channel|>commentary to=functions.search<|message|>{oops<|call|>",
            "error parsing tool call: raw='{oops', err=",
        ),
        ("glimmer", " to=search<|message|>{}<|eot|>", "parse Glimmer call to search"),
    ],
)
def test_where_ollama_has_an_error_it_is_one(
    name: str, text: str, error: str, spec: AnswerSpec
) -> None:
    parser = BY_NAME[name].start(spec)
    with pytest.raises(OutputError, match=error.replace("{", r"\{")):
        parser.feed(text)


@pytest.mark.parametrize("parts", ["()", "[0]", ".a()"])
def test_python_without_end_that_is_no_call_stays_text(parts: str, spec: AnswerSpec) -> None:
    text = f"<|tool_call_start|>[f{parts * 1_000}(x=1)]<|tool_call_end|>"
    parser = BY_NAME["lfm2"].start(spec)
    events = [*parser.feed(text), *parser.finish("stop")]
    assert "".join(event.text for event in events if isinstance(event, Content)) == text


def test_a_name_in_python_may_have_many_parts(spec: AnswerSpec) -> None:
    name = "f" + ".a" * 1_000
    parser = BY_NAME["lfm2"].start(spec)
    events = parser.feed(f"<|tool_call_start|>[{name}(x=1)]<|tool_call_end|>")
    assert [event for event in events if isinstance(event, CallPart)] == [
        CallPart(0, name, '{"x":1}')
    ]


def test_names_that_typescript_cannot_have_are_mapped_back() -> None:
    names = ("my-tool", "my.tool", "3d", "", "browser.open")
    tools = tuple(
        {"type": "function", "function": {"name": name, "parameters": {}}} for name in names
    )
    spec = AnswerSpec(calls=True, tools=tools)
    for written, name in (("my_tool", "my-tool"), ("my_tool_2", "my.tool"), ("_3d", "3d")):
        text = f"<|channel|>commentary to=functions.{written}<|message|>{{}}<|call|>"
        assert check_reading(BY_NAME["harmony"], spec, text).calls == ((name, {}),)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("null", {"type": "string"}, None),
        ("True", {"type": "boolean"}, True),
        ("yes", {"type": "boolean"}, False),
        ("yes", {"type": ["boolean", "string"]}, "yes"),
        ("12345678901234567890", {"type": "integer"}, 12345678901234567890),
        ("3.0", {"type": "number"}, 3),
        ("2.5", {"anyOf": [{"type": "null"}, {"type": "number"}]}, 2.5),
        ('{"a": [1]}', {"type": "object"}, {"a": [1]}),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("[1, 2", {"type": "array"}, "[1, 2"),
        ("7", {}, "7"),
        ("<b>&amp;", {"type": "string"}, "<b>&amp;"),
        ("\n\nlines\n", {"type": "string"}, "\n\nlines\n"),
        ("</parameter> in text", {"type": "string"}, "</parameter> in text"),
    ],
)
def test_bare_values_have_the_type_of_their_schema(
    text: str, schema: object, value: object
) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": schema}}}
    spec = AnswerSpec(calls=True, tools=({"type": "function", "function": function},))
    body = f"<function=f>\n<parameter=a>\n{text}\n</parameter>\n</function>"
    found = check_reading(BY_NAME["qwen3-coder"], spec, f"<tool_call>\n{body}\n</tool_call>")
    assert found.calls == (("f", {"a": value}),)
