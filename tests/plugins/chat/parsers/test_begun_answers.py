"""What a prompt has begun already, and what values say of themselves."""

# ruff: noqa: RUF001 - DeepSeek's marks have wide bars

import msgspec
import pytest

from corral_chat.parsing.families import families
from corral_kernel.contracts import AnswerSpec, Constrained, Free, Literal, Message
from corral_kernel.testing.parsers import Read, Unsaid, check_reading, check_truncation

BY_NAME = {family.name: family for family in families()}
THREE = ("get_weather", {"city": "Oslo", "days": 3})
BOTH = Read(calls=(THREE, ("search", {"q": "Paris"})))
ARGUMENTS = '{"city": "Oslo", "days": 3}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'get_weather\n{ARGUMENTS}>>>search\n{{"q": "Paris"}}', BOTH),
        (f"all\nYes.>>>get_weather\n{ARGUMENTS}", Read("Yes.", calls=(THREE,))),
        ("all\nYes.", Read("Yes.")),
        ("", Read()),
    ],
    ids=["calls", "text and a call", "text", "nothing"],
)
def test_a_prompt_may_end_with_the_mark_of_what_the_answer_begins_with(
    text: str, expected: Read, spec: AnswerSpec
) -> None:
    begun = msgspec.structs.replace(spec, prompt_end="assistant\n\n>>>")
    assert check_reading(BY_NAME["functionary-v3.2"], begun, text) == expected
    unsaid = Unsaid(frozenset({"all\n", ">>>all\n"}))
    check_truncation(BY_NAME["functionary-v3.2"], begun, text, unsaid)


def test_a_plan_does_not_write_the_mark_that_the_prompt_ends_with(spec: AnswerSpec) -> None:
    family = BY_NAME["functionary-v3.2"]
    begun = msgspec.structs.replace(spec, prompt_end="assistant\n\n>>>")
    forced = family.plan(msgspec.structs.replace(begun, force_call=True))
    assert forced is not None
    assert [type(step) for step in forced.steps] == [Constrained]
    free = family.plan(begun)
    assert free is not None
    (step,) = free.steps
    assert isinstance(step, Free)
    assert [(each.mark, each.at_start) for each in step.triggers] == [
        ("get_weather\n", True),
        ("search\n", True),
        (">>>", False),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "schema", "value"),
    [
        ("true", "3", {"type": "integer"}, "3"),
        ("false", "3", {"type": "string"}, 3),
        ("false", '{"a": [1, null]}', {}, {"a": [1, None]}),
        ("false", "three", {"type": "integer"}, "three"),
        ("true", "null", {"type": "string"}, "null"),
    ],
)
def test_a_value_that_says_whether_it_is_text_is_what_it_says(
    kind: str, text: str, schema: object, value: object
) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": schema}}}
    spec = AnswerSpec(calls=True, tools=({"type": "function", "function": function},))
    argument = f'<｜DSML｜parameter name="a" string="{kind}">{text}</｜DSML｜parameter>'
    body = f'<｜DSML｜invoke name="f">\n{argument}\n</｜DSML｜invoke>'
    whole = f"<｜DSML｜tool_calls>\n{body}\n</｜DSML｜tool_calls>"
    assert check_reading(BY_NAME["deepseek-v3.2"], spec, whole).calls == (("f", {"a": value}),)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("glm-ocr", "<think>Hm.</think>Yes.", Read("Yes.", "Hm.")),
        ("ministral", "[THINK]Hm.[/THINK]Yes.", Read("Yes.", "Hm.")),
        ("gemma4", "<|channel>thought\nHm.<channel|>Yes.", Read("Yes.")),
        ("gemma4", "<|channel>thought\n<channel|>Yes.", Read("Yes.")),
        ("laguna", "<think>Hm.</think>Yes.", Read("Yes.")),
        ("glm-4.7", "<think>Hm.</think>Yes.", Read("<think>Hm.</think>Yes.")),
        (
            "glimmer",
            " to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>Yes.",
            Read("Yes."),
        ),
    ],
)
def test_a_thought_that_was_not_asked_for_is_what_ollama_makes_of_it(
    name: str, text: str, expected: Read, spec: AnswerSpec
) -> None:
    off = msgspec.structs.replace(spec, think=False)
    assert check_reading(BY_NAME[name], off, text) == expected


@pytest.mark.parametrize("name", ["glm-ocr", "ministral", "gemma4", "laguna", "qwen3-thinking"])
def test_no_plan_begins_a_thought_that_was_not_asked_for(name: str, spec: AnswerSpec) -> None:
    off = msgspec.structs.replace(spec, think=False, force_call=True, think_budget=9)
    plan = BY_NAME[name].plan(off)
    assert plan is not None
    assert not any(isinstance(step, Free) for step in plan.steps)


@pytest.mark.parametrize(
    ("name", "template", "thinks"),
    [
        ("harmony", "<|channel|>analysis<|message|>", True),
        ("gemma-channels", "<|tool_call>call:<|channel>thought\n", True),
        ("kimi-k3", "{{ open_tag('think') }}", True),
        ("mistral-named", "[TOOL_CALLS][ARGS][THINK]", True),
        ("mistral-named", "[TOOL_CALLS][ARGS]", False),
        ("hermes", "<tool_call></tool_call>", False),
    ],
)
def test_a_template_with_marks_of_thoughts_is_one_of_a_model_that_thinks(
    name: str, template: str, *, thinks: bool
) -> None:
    assert BY_NAME[name].thinks(template) is thinks


THOUGHT = Message(role="assistant", thinking="So ")


def test_a_thought_of_gpt_oss_that_is_not_finished_goes_on(spec: AnswerSpec) -> None:
    begun = msgspec.structs.replace(spec, last=THOUGHT)
    text = "far.<|end|><|start|>assistant<|channel|>final<|message|>Yes."
    assert check_reading(BY_NAME["harmony"], begun, text) == Read("Yes.", "far.")
    marks = {"<|end|>", "<|start|>", "<|start|>assistant", "<|channel|>", "<|channel|>final"}
    check_truncation(BY_NAME["harmony"], begun, text, Unsaid(frozenset({*marks, "<|message|>"})))


def test_no_plan_begins_that_thought_again(spec: AnswerSpec) -> None:
    begun = msgspec.structs.replace(spec, last=THOUGHT, think_budget=9)
    forced = BY_NAME["harmony"].plan(msgspec.structs.replace(begun, force_call=True))
    assert forced is not None
    first, second, *_ = forced.steps
    assert first == Free(until="<|end|>", most_tokens=9)
    assert second == Literal(text="<|start|>assistant")
    free = BY_NAME["harmony"].plan(begun)
    assert free is not None
    assert free.steps[0] == Free(until="<|end|>", most_tokens=9)


def test_a_forced_call_of_gpt_oss_follows_the_text_that_was_begun(spec: AnswerSpec) -> None:
    last = Message(role="assistant", content="Let me see.")
    begun = msgspec.structs.replace(spec, last=last, force_call=True)
    plan = BY_NAME["harmony"].plan(begun)
    assert plan is not None
    assert plan.steps[0] == Literal(text="<|end|><|start|>assistant")
    written = "".join(step.text for step in plan.steps if isinstance(step, Literal))
    text = f'{written}search <|constrain|>json<|message|>{{"q": "Oslo"}}'
    assert check_reading(BY_NAME["harmony"], begun, text) == Read(
        calls=(("search", {"q": "Oslo"}),)
    )


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("<|channel|>analysis to=functions.search", Read(calls=(("search", {"q": "Oslo"}),))),
        ("<|channel|>commentary to=search", Read(calls=(("search", {"q": "Oslo"}),))),
        (
            " to=browser.open<|channel|>analysis code",
            Read(calls=(("browser.open", {"q": "Oslo"}),)),
        ),
        ("<|channel|>commentary", Read('{"q": "Oslo"}')),
        ("<|channel|>unheard", Read('{"q": "Oslo"}')),
        ("", Read('{"q": "Oslo"}')),
    ],
)
def test_a_header_of_gpt_oss_says_what_its_text_is(
    header: str, expected: Read, spec: AnswerSpec
) -> None:
    text = f'{header}<|message|>{{"q": "Oslo"}}<|end|>'
    assert check_reading(BY_NAME["harmony"], spec, text) == expected


@pytest.mark.parametrize("text", ["Hm.<channel|>Yes.", "<|channel>thought\nHm.<channel|>Yes."])
def test_an_answer_of_gemma_4_to_a_result_begins_within_a_thought(
    text: str, spec: AnswerSpec
) -> None:
    after = msgspec.structs.replace(spec, last=Message(role="tool", content="sunny"))
    assert check_reading(BY_NAME["gemma4"], after, text) == Read("Yes.", "Hm.")
    assert check_reading(BY_NAME["gemma4"], spec, "Yes.") == Read("Yes.")


@pytest.mark.parametrize(
    ("written", "declared", "called"),
    [("read_file", "read", "read"), ("read_file", "read_file", "read_file"), ("x", "read", "x")],
)
def test_names_that_laguna_has_learnt_are_those_of_declared_tools(
    written: str, declared: str, called: str
) -> None:
    tool = {"type": "function", "function": {"name": declared, "parameters": {}}}
    spec = AnswerSpec(calls=True, tools=(tool,))
    text = f"<tool_call>{written}\n<arg_key>p</arg_key>\n<arg_value>a</arg_value>\n</tool_call>"
    assert check_reading(BY_NAME["laguna"], spec, text).calls == ((called, {"p": "a"}),)
