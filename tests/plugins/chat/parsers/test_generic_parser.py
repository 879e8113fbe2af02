"""Calls and thoughts of models that only a template tells of."""

import msgspec
import pytest

from corral_chat.parsing.generic import GenericParser
from corral_kernel.contracts import AnswerSpec, Literal
from corral_kernel.testing.parsers import Read, Unsaid, check_reading, check_truncation

GENERIC = GenericParser()
CALLS = "{{ range .Messages }}{{ if .ToolCalls }}%s{{ end }}{{ end }}"
OBJECT = '{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "%s": {{ .Function.Arguments }}}'
TEMPLATES = {
    "tags": CALLS % f"<tool_call>\n{OBJECT % 'arguments'}\n{{{{ end }}}}</tool_call><|im_end|>",
    "bare": CALLS % f"{OBJECT % 'parameters'}{{{{ end }}}}<|eot_id|>",
    "list": CALLS % f"[TOOL_CALLS] [{OBJECT % 'arguments'}{{{{ end }}}}]</s>",
    "name": CALLS
    % (
        "{{ range .ToolCalls }}[TOOL_CALLS]{{ .Function.Name }}[ARGS]{{ .Function.Arguments }}"
        "{{ end }}</s>"
    ),
    "fence": CALLS % f"Action: ```json\n[{OBJECT % 'parameters'}{{{{ end }}}}]\n```",
    "thoughts": (
        "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
        "{{ .Content }}{{ end }}"
    ),
    "none": "{{ range .Messages }}{{ .Content }}{{ end }}",
}
OSLO = ("get_weather", {"city": "Oslo"})
JSON = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'

ANSWERS: dict[str, tuple[str, str, Read]] = {
    "text and call in one": ("tags", f"Sure! <tool_call>{JSON}", Read("Sure! ", calls=(OSLO,))),
    "unknown tool": (
        "tags",
        '<tool_call>{"name": "x", "arguments": {}}</tool_call> b',
        Read('<tool_call>{"name": "x", "arguments": {}}</tool_call> b'),
    ),
    "single quotes": ("tags", "<tool_call>{'name'}", Read("<tool_call>{'name'}")),
    "no arguments": (
        "tags",
        '<tool_call>{"name": "get_weather"}',
        Read('<tool_call>{"name": "get_weather"}'),
    ),
    "the name decides": (
        "tags",
        '<tool_call>{"arguments": {"city": "search"}, "name": "get_weather"}</tool_call>',
        Read(calls=(("get_weather", {"city": "search"}),)),
    ),
    "text behind": ("tags", f"<tool_call>{JSON}</tool_call>\nDone.", Read("Done.", calls=(OSLO,))),
    "bare": ("bare", f" {JSON}", Read(calls=(OSLO,))),
    "bare, twice": ("bare", f"{JSON}; {JSON}", Read(calls=(OSLO, OSLO))),
    "bare, plain JSON": ("bare", '{"a": [1, {}]} b', Read('{"a": [1, {}]} b')),
    "bare, after text": ("bare", f"I think {JSON}", Read(f"I think {JSON}")),
    "list": ("list", f"[TOOL_CALLS] [{JSON}, {JSON}]", Read(calls=(OSLO, OSLO))),
    "name before arguments": (
        "name",
        'Ok.[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]search[ARGS]{"q": "a"}',
        Read("Ok.", calls=(OSLO, ("search", {"q": "a"}))),
    ),
    "command": (
        "fence",
        'Action: ```json\n[{"tool_name": "get_weather", "parameters": {"city": "Oslo"}}]\n```',
        Read(calls=(OSLO,)),
    ),
    "no template for calls": ("none", JSON, Read(calls=(OSLO,))),
}


def of(spec: AnswerSpec, template: str, **more: object) -> AnswerSpec:
    return msgspec.structs.replace(spec, renderer="go", template=TEMPLATES[template], **more)


@pytest.mark.parametrize("name", ANSWERS)
def test_calls_are_read_as_the_template_writes_them(name: str, spec: AnswerSpec) -> None:
    template, text, expected = ANSWERS[name]
    assert check_reading(GENERIC, of(spec, template), text) == expected


@pytest.mark.parametrize("held", [True, False], ids=["held", "free"])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_breaks_off_loses_nothing(
    name: str, spec: AnswerSpec, *, held: bool
) -> None:
    template, text, _ = ANSWERS[name]
    unsaid = Unsaid(closers=frozenset({"}", "]", "```", "</tool_call>"}))
    check_truncation(GENERIC, of(spec, template, constrain_tools=held), text, unsaid)


@pytest.mark.parametrize(
    ("template", "begin"),
    [
        ("tags", "<tool_call>\n"),
        ("bare", '{"name": "'),
        ("list", "[TOOL_CALLS] ["),
        ("name", "[TOOL_CALLS]"),
    ],
)
def test_a_forced_call_begins_as_the_template_has_it(
    template: str, begin: str, spec: AnswerSpec
) -> None:
    plan = GENERIC.plan(of(spec, template, force_call=True))
    assert plan is not None
    assert plan.steps[0] == Literal(text=begin)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  <think>\nHm. </think>\n\n Yes ", Read("Yes ", "Hm. ")),
        (" No <think>a</think>", Read(" No <think>a</think>")),
        ("<think>a</thin", Read("", "a</thin")),
        ("<thi", Read("<thi")),
    ],
    ids=["thought", "none", "half a closing mark", "half an opening mark"],
)
def test_thoughts_are_read_by_the_tags_of_the_template(
    text: str, expected: Read, spec: AnswerSpec
) -> None:
    assert check_reading(GENERIC, of(spec, "thoughts"), text) == expected
    off = of(spec, "thoughts", think=False)
    assert check_reading(GENERIC, off, text) == Read(text)
