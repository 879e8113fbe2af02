"""Templates of well-known families render as by transformers, which made the golden files."""

import json
import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral_chat.renderers import JinjaRenderer
from corral_kernel.contracts import Conversation, Message, TextPart
from corral_kernel.errors import TemplateError

CASES = runpy.run_path(str(Path(__file__).with_name("jinjacases.py")))
TEMPLATES: dict[str, str] = CASES["TEMPLATES"]
CONVERSATIONS: dict[str, dict[str, Any]] = CASES["CONVERSATIONS"]
GOLDEN = json.loads((Path(__file__).parent / "golden" / "jinja.json").read_text("utf-8"))
IDIOMS = json.loads((Path(__file__).parent / "golden" / "jinja-idioms.json").read_text("utf-8"))
NOW = 1_720_000_000.0  # in July 2024


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def rendered(template: str, conversation: dict[str, Any]) -> str:
    given = msgspec.convert({**conversation, "bos": "<s>", "eos": "</s>", "now": NOW}, Conversation)
    (part,) = JinjaRenderer().render(template, given)
    assert isinstance(part, TextPart)
    return part.text


def said(template: str, *messages: dict[str, Any], **more: Any) -> str:
    return rendered(template, {"messages": messages, **more})


def golden(case: dict[str, Any]) -> str:
    lines: list[str] = GOLDEN["lines"]
    return "\n".join(lines[line] for line in case["text"]) + str(case.get("then", ""))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_conversation_is_rendered_as_by_transformers(name: str) -> None:
    cases = GOLDEN["cases"][name]
    assert cases.keys() == CONVERSATIONS.keys()
    for key, case in cases.items():
        if "text" in case:
            assert rendered(TEMPLATES[name], CONVERSATIONS[key]) == golden(case), key
            continue
        of_python = case["error"].endswith("Error")  # whose words are not those of the template
        with pytest.raises(TemplateError, match=None if of_python else "chat template: .") as told:
            rendered(TEMPLATES[name], CONVERSATIONS[key])
        assert of_python or case["error"] in str(told.value), key


def test_the_golden_file_has_every_template_and_both_texts_and_refusals() -> None:
    assert GOLDEN["cases"].keys() == TEMPLATES.keys()
    assert len(TEMPLATES) >= 101
    cases = [case for ones in GOLDEN["cases"].values() for case in ones.values()]
    assert sum("text" in case for case in cases) > 2800
    assert sum("error" in case for case in cases) > 20


TURNS = (
    {"role": "user", "content": "U"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": ""},
)


@pytest.mark.parametrize("source", IDIOMS)
def test_an_idiom_gives_what_it_gives_in_transformers(source: str) -> None:
    expected = IDIOMS[source]
    template = source.replace("⏎", "\n")
    if "text" in expected:
        assert said(template, *TURNS) == expected["text"]
        return
    with pytest.raises(TemplateError, match=r"the chat template: ."):
        said(template, *TURNS)


def test_the_idioms_are_many_and_most_of_them_give_text() -> None:
    assert len(IDIOMS) >= 70
    assert sum("text" in idiom for idiom in IDIOMS.values()) > 50


USER = {"role": "user", "content": "Hi"}


def calling(*ids: str) -> dict[str, Any]:
    calls = [{"id": one, "function": {"name": "f", "arguments": {"a": 1}}} for one in ids]
    return {"role": "assistant", "tool_calls": calls}


def result(call_id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_name": "f", "tool_call_id": call_id}


def test_ids_become_nine_letters_and_digits_where_a_template_insists_on_them() -> None:
    template = TEMPLATES["mistralai-Mistral-Nemo-Instruct-2407"]
    tools = [CASES["TOOLS"]["now"]]
    text = said(template, USER, calling("call_ab12cd34"), result("call_ab12cd34", "x"), tools=tools)
    begin = text.index('"id": "') + 7
    made = text[begin : begin + 9]
    assert made.isalnum()
    assert f'"call_id": "{made}"' in text
    assert said(template, USER, calling("")) != said(template, USER, calling("abcdefgh1"))


def test_results_are_put_in_the_order_of_the_calls_for_deepseek_v4() -> None:
    template = TEMPLATES["deepseek-ai-DeepSeek-V4"]
    turned = said(template, USER, calling("c1", "c2"), result("c2", "two"), result("c1", "one"))
    ordered = said(template, USER, calling("c1", "c2"), result("c1", "one"), result("c2", "two"))
    assert turned == ordered
    assert ordered.index("one") < ordered.index("two")
    unknown = said(template, USER, calling("c1"), result("c9", "one"), result("", "two"), USER)
    assert unknown.index("one") < unknown.index("two")


def test_an_answer_is_asked_for_behind_results_of_calls_with_a_text() -> None:
    """Gemma 4's template closes the turn then, and asks for none."""
    template, last = TEMPLATES["google-gemma-4-31B-it"], result("c1", "cold")
    text = said(template, USER, {**calling("c1"), "content": "I look."}, last)
    assert text.endswith("I look.<turn|>\n<|turn>model\n")
    assert said(template, USER, calling("c1"), last).endswith("<tool_response|>")


def test_white_space_around_texts_is_cut_for_stepfun() -> None:
    text = said(TEMPLATES["StepFun3.5-Flash"], {"role": "user", "content": " \n Hi \n"})
    assert "user\nHi<|im_end|>" in text


def test_a_system_message_is_the_users_where_a_template_knows_none() -> None:
    template = TEMPLATES["google-gemma-2-2b-it"]
    system = {"role": "system", "content": "S"}
    assert said(template, system) == said(template, {**system, "role": "user"})
    assert said(template, system, USER) == (
        "<s><start_of_turn>user\nS\nHi<end_of_turn>\n<start_of_turn>model\n"
    )


def test_contents_are_parts_where_a_template_shows_nothing_else() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:"
        "{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %};{% endfor %}"
    )
    assert said(template, {"role": "system", "content": "S"}, USER) == "system:S;user:Hi;"


def test_arguments_are_json_where_a_template_prints_them_as_they_are() -> None:
    template = (
        "{% for m in messages %}{{ m.content }}{% for call in m.tool_calls or [] %}"
        "{{ call.function.arguments }}{% endfor %}{% endfor %}"
    )
    assert said(template, USER, calling("c")) == 'Hi{"a": 1}'


def test_thoughts_are_parts_of_an_answer_for_ministral() -> None:
    template = TEMPLATES["mistralai-Ministral-3-14B-Reasoning-2512"]
    thought = {"role": "assistant", "content": "B", "thinking": "T"}
    assert "[THINK]T[/THINK]B" in said(template, USER, thought, USER)


@pytest.mark.parametrize("name", ["Qwen-Qwen3-0.6B", "GLM-4.6", "deepseek-ai-DeepSeek-V3.1"])
def test_an_answer_that_goes_on_is_no_thought(name: str) -> None:
    last = {"role": "assistant", "content": "1, 2, "}
    text = said(TEMPLATES[name], USER, last, think=True)
    assert text.endswith("1, 2, ")
    assert text.count("<think>") <= text.count("</think>")


@pytest.mark.parametrize(
    ("asks", "text"),
    [
        ("<a>", "<a>one"),
        ("<a><think>\n", "<a><think>\nwhy\n</think>\n\none"),
        ("<a>[THINK]", "<a>[THINK]why[/THINK]one"),
    ],
)
def test_an_answer_that_a_template_hides_follows_what_asks_for_it(asks: str, text: str) -> None:
    template = f"{{% if add_generation_prompt %}}{asks}{{% endif %}}"
    template = template.replace("\n", "{{ '\\n' }}")
    assert said(template, USER, {"role": "assistant", "content": "one", "thinking": "why"}) == text
    thought = said(template, USER, {"role": "assistant", "thinking": "why"})
    assert thought == (f"{asks}why" if "hink" in asks.lower() else asks)
    assert said(template, USER, {"role": "assistant"}) == asks


def test_a_template_that_refuses_an_answer_at_the_end_has_it_behind() -> None:
    template = (
        "{% if messages[-1].role != 'user' %}{{ raise_exception('no') }}{% endif %}"
        "{{ messages[-1].content }}>"
    )
    assert said(template, USER, {"role": "assistant", "content": "yes"}) == "Hi>yes"


def test_a_thought_that_is_not_finished_goes_on() -> None:
    template = TEMPLATES["Qwen-Qwen3-0.6B"]
    text = said(template, USER, {"role": "assistant", "thinking": "so far"}, think=True)
    assert text.endswith("<think>\nso far")


def test_tools_have_the_keys_that_ollama_gives_in_its_order() -> None:
    given = {
        "function": {
            "parameters": {
                "additionalProperties": False,
                "properties": {
                    "b": {"minimum": 1, "description": "B", "type": "integer"},
                    "a": {"type": ["string"], "enum": ["x"], "default": "x", "required": []},
                    "c": {"properties": {"d": {"format": "date"}}, "type": "object", "items": {}},
                    "e": {"anyOf": [{"type": "null", "title": "N"}, 7]},
                    "f": 7,
                },
                "required": ["b"],
                "type": "object",
            },
            "strict": True,
            "name": "f",
        },
        "type": "function",
    }
    assert said("{{ tools | tojson }}", USER, tools=[given]) == (
        '[{"type": "function", "function": {"name": "f", "description": "", "parameters": '
        '{"type": "object", "required": ["b"], "properties": '
        '{"b": {"type": "integer", "description": "B"}, "a": {"type": "string", "enum": ["x"]}, '
        '"c": {"type": "object", "items": {}, "properties": {"d": {}}}, '
        '"e": {"anyOf": [{"type": "null"}]}}}}}]'
    )


@pytest.mark.parametrize(
    "tool", [{}, {"function": 7}, {"function": {"parameters": [1], "name": {}}, "type": None}]
)
def test_what_is_hardly_a_tool_is_shown_as_an_empty_one(tool: dict[str, Any]) -> None:
    assert said("{{ tools[0].function.parameters }}{{ tools[0].type }}", USER, tools=[tool]) == (
        "{'type': 'object', 'properties': {}}function"
    )


def test_properties_within_properties_are_shown_to_a_depth() -> None:
    inner: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        inner = {"type": "object", "properties": {"a": inner}}
    tool = {"function": {"name": "f", "parameters": inner}}
    assert said("{{ tools | tojson }}", USER, tools=[tool]).count('"a"') == 51


@pytest.mark.parametrize(
    ("think", "text"),
    [
        (None, "--"),
        (True, "True-True-"),
        (False, "False-False-"),
        ("low", "True-True-low"),
        ("max", "True-True-max"),
    ],
)
def test_thinking_is_told_by_the_names_that_templates_know(think: Any, text: str) -> None:
    source = "{{ enable_thinking }}-{{ thinking }}-{{ reasoning_effort }}"
    assert said(source, USER, think=think) == text


def test_lists_that_a_template_writes_may_grow_and_those_that_it_is_given_may_not() -> None:
    source = "{% set a = [1] %}{% set _ = a.append(2) %}{{ a.pop(0) }}{{ a | tojson }}{{ a }}"
    assert said(source, USER) == "1[2][2]"
    with pytest.raises(TemplateError, match="'append' of 'list' object is unsafe"):
        said("{{ messages.append(1) }}", USER)


def test_a_namespace_may_have_any_name_but_hidden_ones() -> None:
    assert said("{% set n = namespace(self=1, args=2) %}{{ n.self }}{{ n.args }}", USER) == "12"


def test_what_a_generation_block_sets_is_unknown_outside() -> None:
    source = "{% set a = 1 %}{% generation %}{% set a = 2 %}{{ a }}{% endgeneration %}{{ a }}"
    assert said(source, USER) == "21"


def test_messages_are_shown_with_their_keys_in_llama_cpps_order() -> None:
    message = Message(
        role="tool", content="c", thinking="t", tool_name="n", tool_call_id="i", tool_calls=({},)
    )
    (part,) = JinjaRenderer().render(
        "{{ messages[0].keys() | join(' ') }} {{ messages[0].tool_calls | tojson }}",
        Conversation(messages=(message,)),
    )
    assert isinstance(part, TextPart)
    assert part.text == (
        "role content reasoning_content thinking name tool_call_id tool_calls "
        '[{"type": "function", "function": {"name": "", "arguments": {}}}]'
    )
