"""Which parser reads a model's answers, and what a request leaves open."""

from typing import Any

import msgspec
import pytest

from corral_kernel.calls import CompletionCall
from corral_kernel.chat_formats import reading_of, settled, with_shown_names
from corral_kernel.contracts import Message, ToolChoice
from corral_kernel.errors import InvalidRequestError
from corral_kernel.frames import Reading
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.plugins import Plugins
from corral_kernel.prompts import prompt_spec
from corral_kernel.worker.prompting import conversation_of

GO = "{{ range .Messages }}{{ .Content }}{{ end }}"
JINJA = "{{ messages }}{{ tools }}"
HERMES = JINJA + "<tool_call>{}</tool_call>"
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins(("chat",))


def model(go: str = "", jinja: str = "", name: str = "m", **config: Any) -> Model:
    return Model(
        name=ModelName.parse(name),
        digest="0" * 64,
        size_bytes=0,
        modified_ns=0,
        config=ModelConfig(**config),
        files=(),
        template=go,
        folder_template=jinja,
    )


def reading(plugins: Plugins, asked: Model, **given: Any) -> Reading | None:
    given.setdefault("messages", ())
    call = CompletionCall(model=asked, **given)
    return reading_of(call, prompt_spec(call, plugins), plugins, go_template=None)


def test_without_tools_and_thoughts_nothing_is_read(plugins: Plugins) -> None:
    for asked in (model(GO), model("", HERMES)):
        assert reading(plugins, asked) is None
        assert reading(plugins, asked, think=False) is None


def test_a_template_in_go_is_read_by_what_it_shows(plugins: Plugins) -> None:
    assert reading(plugins, model(GO), tools=(TOOL,)) == Reading(parser="generic", calls=True)
    assert reading(plugins, model(GO), think=True) == Reading(parser="generic")


def test_a_template_in_jinja_is_read_by_the_family_that_knows_it(plugins: Plugins) -> None:
    assert reading(plugins, model("", HERMES), tools=(TOOL,)) == Reading(
        parser="hermes", calls=True
    )
    found = reading(plugins, model("", JINJA), tools=(TOOL,))
    assert found == Reading(parser="generic", calls=True)


def test_a_template_in_jinja_with_marks_of_thoughts_has_them_read_in_any_case(
    plugins: Plugins,
) -> None:
    asked = model("", JINJA + "<|channel|>analysis<|message|>")
    for think in (None, True, False):
        assert reading(plugins, asked, think=think) == Reading(parser="harmony")


def test_a_parser_of_the_config_reads_in_any_case(plugins: Plugins) -> None:
    asked = model(GO, parser="qwen3")
    assert reading(plugins, asked) == Reading(parser="qwen3", calls=True)
    none = ToolChoice(mode="none")
    assert reading(plugins, asked, tool_choice=none) == Reading(parser="qwen3")
    assert reading(plugins, model(GO, parser="nobodys")) is None


def test_channels_of_gpt_oss_are_read_as_such(plugins: Plugins) -> None:
    asked = model(GO + "<|start|><|end|>", model_family="gptoss")
    found = reading(plugins, asked)
    assert found is not None
    assert found.parser == "harmony"


def test_names_that_a_family_does_not_take_are_shown_otherwise(plugins: Plugins) -> None:
    asked = model(GO + "<|start|><|end|>", model_family="gptoss")
    call = {"function": {"name": "get-weather", "arguments": {}}}
    said = (
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", tool_name="get-weather", content="rain"),
    )
    tools = tuple({"type": "function", "function": {"name": n}} for n in ("get-weather", "f"))
    asking = CompletionCall(model=asked, messages=said, tools=tools)
    spec = prompt_spec(asking, plugins)
    found = reading_of(asking, spec, plugins, go_template=None)
    shown = conversation_of(with_shown_names(spec, found, plugins), now=0.0)
    assert [tool["function"]["name"] for tool in shown.tools] == ["get_weather", "f"]
    assert shown.messages[0].tool_calls[0]["function"]["name"] == "get_weather"
    assert shown.messages[1].tool_name == "get_weather"
    assert with_shown_names(spec, Reading(parser="generic"), plugins) is spec


def test_of_a_raw_prompt_the_template_tells_how_it_is_read(plugins: Plugins) -> None:
    given = {"messages": None, "raw": True, "prompt": "x", "think": True}
    found = reading(plugins, model(GO), **given)
    assert found == Reading(parser="generic", renderer="go", template=GO)


def test_what_fills_a_gap_is_not_read(plugins: Plugins) -> None:
    given = {"messages": None, "prompt": "x", "suffix": "y", "think": True}
    assert reading(plugins, model(GO), **given) is None


def test_a_model_that_can_think_does_unless_it_is_told(plugins: Plugins) -> None:
    def think(*capabilities: str, asked: Model | None = None, **given: Any) -> Any:
        call = CompletionCall(model=asked or model(GO), **given)
        return settled(call, capabilities, plugins).think

    assert think("thinking") is True
    assert think("thinking", think=False) is False
    assert think("thinking", think="low") == "low"
    assert think("completion") is None
    stub = model(GO, remote_host="https://gpu.example/v1", remote_model="x")
    assert think("thinking", asked=stub) is None


def test_a_choice_that_no_tool_fits_is_refused(plugins: Plugins) -> None:
    call = CompletionCall(model=model(GO), tool_choice=ToolChoice(mode="required"))
    with pytest.raises(InvalidRequestError, match="has no tools"):
        settled(call, (), plugins)
    choice = ToolChoice(mode="required", name="g")
    named = msgspec.structs.replace(call, tools=(TOOL,), tool_choice=choice)
    with pytest.raises(InvalidRequestError, match="'g', which is none of the request's tools"):
        settled(named, (), plugins)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (model(GO, model_family="qwen3"), "b"),
        (model(GO, name="deepseek-r1:8b"), "b"),
        (model(GO), "<think>a</think>b"),
    ],
    ids=["qwen3", "deepseek-r1", "another"],
)
def test_thoughts_in_texts_before_the_last_question_are_taken_out_of_some(
    plugins: Plugins, asked: Model, kept: str
) -> None:
    said = [("user", "1"), ("assistant", "<think>a</think>b"), ("user", "2")]
    last = ("assistant", "<think>c</think>")
    messages = tuple(Message(role=role, content=text) for role, text in (*said, last))
    call = CompletionCall(model=asked, messages=messages)
    rendered = prompt_spec(call, plugins).messages
    assert [m.content for m in rendered] == ["1", kept, "2", "<think>c</think>"]
