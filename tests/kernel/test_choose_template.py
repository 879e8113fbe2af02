"""Of a model's Go template and the Jinja one in its weights, which is rendered."""

from typing import Any

import pytest

from corral_kernel.chat_formats import with_format
from corral_kernel.contracts import Claim
from corral_kernel.errors import (
    InvalidRequestError,
    TemplateError,
    UnknownRendererError,
    UnsupportedError,
)
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.plugins import Plugins
from corral_kernel.prompts import check_template, choose_template

GO = "{{ range .Messages }}{{ .Content }}{{ end }}"
GO_TOOLS = GO + "{{ .Tools }}"
GO_ROUND = (
    GO_TOOLS + '{{ range .Messages }}{{ if eq .Role "tool" }}{{ .ToolCalls }}{{ end }}{{ end }}'
)
GO_THINK = "{{ range .Messages }}{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ end }}"
JINJA = "{{ messages }}"
JINJA_TOOLS = "{{ messages }}{{ tools }}"
JINJA_ROUND = "{{ tools }}{{ m.tool_calls }}{% if m['role'] == 'tool' %}{% endif %}"
JINJA_THINK = "{{ tools }}<think></think>"
JINJA_SPLIT = "{{ m.content.split('</think>')[-1] }}"


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins(("chat",))


def model(go: str = "", jinja: str = "", **config: Any) -> Model:
    return Model(
        name=ModelName.parse("m"),
        digest="0" * 64,
        size_bytes=0,
        modified_ns=0,
        config=ModelConfig(**config),
        files=(),
        template=go,
        folder_template=jinja,
    )


def chosen(plugins: Plugins, asked: Model, *, go_template: bool | None = None) -> str:
    name, template = choose_template(asked, plugins, go_template=go_template)
    assert (
        template == {"go": asked.template or "{{ .Prompt }}", "jinja": asked.folder_template}[name]
    )
    return name


@pytest.mark.parametrize(
    ("go", "jinja", "winner"),
    [
        ("", "", "go"),
        (GO, "", "go"),
        ("", JINJA, "jinja"),
        (GO, JINJA, "go"),
        (GO, JINJA_TOOLS, "jinja"),
        (GO, JINJA_THINK, "jinja"),
        (GO, JINJA_SPLIT, "jinja"),
        (GO, JINJA_SPLIT + "{{ m.reasoning_content }}", "go"),
        (GO_TOOLS, JINJA_TOOLS, "go"),
        (GO_TOOLS, JINJA_ROUND, "jinja"),
        (GO_ROUND, JINJA_ROUND, "go"),
        (GO_ROUND, JINJA_THINK, "go"),
        (GO_ROUND, JINJA_THINK + JINJA_ROUND, "jinja"),
        (GO_THINK, JINJA_TOOLS, "go"),
        (GO_TOOLS, JINJA, "go"),
    ],
)
def test_the_one_that_has_places_for_more_wins(
    plugins: Plugins, go: str, jinja: str, winner: str
) -> None:
    assert chosen(plugins, model(go, jinja)) == winner


def test_the_variable_decides_between_two_and_no_more(plugins: Plugins) -> None:
    assert chosen(plugins, model(GO, JINJA), go_template=False) == "jinja"
    assert chosen(plugins, model(GO, JINJA_ROUND), go_template=True) == "go"
    assert chosen(plugins, model(GO), go_template=False) == "go"
    assert chosen(plugins, model("", JINJA), go_template=True) == "jinja"


def test_a_parser_and_channels_of_gpt_oss_go_with_the_go_template(plugins: Plugins) -> None:
    asked = model(GO, JINJA_ROUND, parser="qwen3")
    assert chosen(plugins, asked, go_template=False) == "go"
    channels = GO + "<|start|><|end|>"
    asked = model(channels, JINJA_ROUND, model_family="gptoss")
    assert chosen(plugins, asked, go_template=False) == "go"
    assert chosen(plugins, model(channels, JINJA_ROUND, model_family="llama")) == "jinja"


def test_a_renderer_of_ollamas_is_the_template_in_the_weights_or_refused(plugins: Plugins) -> None:
    assert chosen(plugins, model(GO, JINJA, renderer="qwen3-coder"), go_template=True) == "jinja"
    with pytest.raises(UnsupportedError, match="'cogito'"):
        chosen(plugins, model(GO, renderer="cogito"))


def has(plugins: Plugins, asked: Model, *, go_template: bool | None = None) -> tuple[str, ...]:
    claim = Claim(backend="b", confidence=1.0, why="", capabilities=("completion",))
    return with_format(asked, claim, plugins, go_template=go_template)


def test_a_suffix_needs_a_place_in_the_template_that_is_rendered(plugins: Plugins) -> None:
    fill = GO + "{{ .Suffix }}"
    assert has(plugins, model(fill)) == ("completion", "insert")
    assert has(plugins, model(fill, JINJA)) == ("completion", "insert")
    assert has(plugins, model(fill, JINJA), go_template=False) == ("completion",)
    assert has(plugins, model(fill, JINJA, renderer="glm-ocr")) == ("completion",)
    assert has(plugins, model(fill, renderer="glm-ocr")) == ("completion",)
    assert has(plugins, model()) == ("completion",)
    assert has(plugins, model("{{ .Suffix")) == ("completion",)


def test_template_and_parser_add_to_what_a_model_can_do(plugins: Plugins) -> None:
    assert has(plugins, model(GO_TOOLS)) == ("completion", "tools")
    assert has(plugins, model(GO_THINK)) == ("completion", "thinking")
    assert has(plugins, model("", JINJA_THINK)) == ("tools", "thinking", "completion")
    assert has(plugins, model(GO, parser="qwen3")) == ("completion", "tools")
    assert has(plugins, model(GO, parser="qwen3-thinking")) == ("completion", "tools", "thinking")
    assert has(plugins, model(GO, parser="nobodys")) == ("completion",)


def test_an_engine_that_takes_chats_has_a_template_of_its_own(plugins: Plugins) -> None:
    claim = Claim(
        backend="b", confidence=1.0, why="", capabilities=("completion", "tools"), takes="chat"
    )
    asked = model(GO_THINK, parser="qwen3-thinking")
    assert with_format(asked, claim, plugins, go_template=None) == ("completion", "tools")


def test_a_renderer_that_nobody_knows_is_told_in_ollamas_words(plugins: Plugins) -> None:
    with pytest.raises(UnknownRendererError, match='unknown renderer "x"'):
        chosen(plugins, model(GO, JINJA, renderer="x"))


def test_a_stored_template_that_does_not_parse_is_told_when_two_are_compared(
    plugins: Plugins,
) -> None:
    with pytest.raises(TemplateError, match="unclosed action"):
        choose_template(model("{{ .Prompt", JINJA), plugins)


def test_a_new_template_that_does_not_parse_is_refused(plugins: Plugins) -> None:
    check_template(GO, plugins)
    with pytest.raises(InvalidRequestError, match="template error: template: :1: unclosed action"):
        check_template("{{ .Prompt", plugins)


def test_without_the_plugin_nothing_is_checked_and_jinja_goes_first() -> None:
    none = Plugins(())
    check_template("{{ .Prompt", none)
    assert choose_template(model(GO, JINJA), none)[0] == "jinja"
    assert has(none, model(GO + "{{ .Suffix }}{{ .Tools }}")) == ("completion",)
