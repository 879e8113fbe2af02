"""Files that stand for Ollama's renderers give what the templates of the models' makers give."""

import json
import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral_chat.renderers import GoRenderer, JinjaRenderer
from corral_kernel.contracts import Conversation, TextPart
from corral_kernel.errors import TemplateError
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.plugins import Plugins
from corral_kernel.prompts import choose_template

CASES = runpy.run_path(str(Path(__file__).with_name("jinjacases.py")))
CONVERSATIONS: dict[str, dict[str, Any]] = CASES["CONVERSATIONS"]
GOLDEN = json.loads((Path(__file__).parent / "golden" / "jinja.json").read_text("utf-8"))
NOW = 1_720_000_000.0  # in July 2024
MAKERS = {
    "cohere": "Cohere2MoE",
    "gemma4-large": "google-gemma-4-31B-it",
    "gemma4-small": "google-gemma-4-31B-it",
    "glimmer": "muse-glimmer",
    "qwen3-coder": "Qwen3-Coder",
    "qwen3.5": "Qwen3.5-4B",
    "ornith": "Qwen3.5-4B",
    "glm-4.7": "GLM-4.7-Flash",
    "lfm2": "LFM2-8B-A1B",
    "lfm2-thinking": "LFM2-8B-A1B",
    "laguna": "poolside-Laguna-XS.2",
    "poolside-v1": "poolside-Laguna-S-2.1",
    "nemotron-3-nano": "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "nemotron-3.5-nano": "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
}
OWN_BOS = {
    "cohere": "",
    "gemma4-large": "<bos>",
    "gemma4-small": "<bos>",
    "glimmer": "<|begin_of_text|>",
    "lfm2": "<|startoftext|>",
    "lfm2-thinking": "<|startoftext|>",
}
"""What a renderer writes instead of the tokenizer's text that begins a sequence."""
OTHERWISE = {
    "glimmer": ("thinks not", "tools and system"),  # whose strength is none
    "ornith": ("has thought", "has thought in its text"),  # it keeps all
    "lfm2": ("tools", "call", "answered", "parallel", "rounds"),
    "lfm2-thinking": ("tools", "call", "answered", "parallel", "rounds", "thought"),
}
"""Words in the names of conversations that the contract renders otherwise; tested below."""


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def rendered(name: str, conversation: dict[str, Any]) -> str:
    if name == "poolside-v1":  # it thinks only when asked to, the maker's unless asked not to
        conversation = {"think": True, **conversation}
    given = msgspec.convert({**conversation, "bos": "<s>", "eos": "</s>", "now": NOW}, Conversation)
    (part,) = JinjaRenderer().render(JinjaRenderer().named(name), given)
    assert isinstance(part, TextPart)
    return part.text


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_renders_as_the_makers_template_does(name: str) -> None:
    checked = 0
    for key, case in GOLDEN["cases"][MAKERS[name]].items():
        if any(word in key for word in OTHERWISE.get(name, ())):
            continue
        checked += 1
        if "error" in case:
            with pytest.raises(TemplateError, match=case["error"]):
                rendered(name, CONVERSATIONS[key])
            continue
        text = "\n".join(GOLDEN["lines"][line] for line in case["text"])
        text = text.replace("<s>", OWN_BOS.get(name, "<s>"), 1)
        if name == "gemma4-small":  # it begins no answer with a thought
            text = text.removesuffix("<|channel>thought\n<channel|>")
        assert rendered(name, CONVERSATIONS[key]) == text, key
    assert checked >= 15


def test_calls_and_tools_of_lfm2_are_as_its_parser_reads_them() -> None:
    text = rendered("lfm2", CONVERSATIONS["parallel"])
    assert text.startswith(
        '<|startoftext|><|im_start|>system\nList of tools: <|tool_list_start|>[{"name": '
    )
    assert (
        '<|im_start|>assistant\n<|tool_call_start|>[get_weather(city="Oslo"), now()]'
        "<|tool_call_end|><|im_end|>\n<|im_start|>tool\n<|tool_response_start|>cold"
    ) in text
    rich = rendered("lfm2", CONVERSATIONS["rich call"])
    assert 'yes=True, no=False, nil=None, list=[1, "x", [2], {}]' in rich


@pytest.mark.parametrize(
    ("name", "thought"),
    [
        ("lfm2-thinking", "assistant\n<think>seven\ntimes six</think>42"),
        ("ornith", "assistant\n<think>\nseven\ntimes six\n</think>\n\n42"),
    ],
)
def test_thoughts_of_earlier_turns_are_kept(name: str, thought: str) -> None:
    assert thought in rendered(name, CONVERSATIONS["has thought"])


@pytest.mark.parametrize(
    ("name", "size", "variant"),
    [
        ("gemma4:e4b", "", "small"),
        ("gemma4:31b", "", "large"),
        ("gemma4:26b-a4b", "4.0B", "large"),
        ("mine", "27.4B", "large"),
        ("mine", "12B", "large"),
        ("mine", "4.3B", "small"),
        ("mine", "270M", "small"),
        ("mine", "", "small"),
    ],
)
def test_gemma4_is_one_of_two_by_name_or_size(name: str, size: str, variant: str) -> None:
    model = Model(
        name=ModelName.parse(name),
        digest="0" * 64,
        size_bytes=0,
        modified_ns=0,
        config=ModelConfig(renderer="gemma4", model_type=size),
        files=(),
    )
    _, template = choose_template(model, Plugins(("chat",)))
    assert template == JinjaRenderer().named(f"gemma4-{variant}")


def test_glimmer_is_told_how_strongly_to_think() -> None:
    assert "Reasoning strength: none." in rendered("glimmer", CONVERSATIONS["thinks not"])
    assert "Reasoning strength: low." in rendered("glimmer", CONVERSATIONS["thinks a little"])
    assert "Reasoning strength: high." in rendered("glimmer", CONVERSATIONS["thinks"])


def test_poolside_thinks_only_when_asked_to() -> None:
    template = JinjaRenderer().named("poolside-v1")
    given = msgspec.convert(CONVERSATIONS["system"], Conversation)
    (part,) = JinjaRenderer().render(template, given)
    assert part == TextPart(
        "〈|EOS|〉<system>Be brief.</system>\n<user>Hi</user>\n<assistant></think>"
    )


def test_a_model_without_a_template_has_that_of_its_renderer_by_name() -> None:
    plugins = Plugins(("chat",))

    def model(jinja: str = "") -> Model:
        return Model(
            name=ModelName.parse("m"),
            digest="0" * 64,
            size_bytes=0,
            modified_ns=0,
            config=ModelConfig(renderer="glm-4.7"),
            files=(),
            template="{{ .Prompt }}",
            folder_template=jinja,
        )

    assert choose_template(model(), plugins) == ("jinja", JinjaRenderer().named("glm-4.7"))
    assert choose_template(model("{{ 1 }}"), plugins) == ("jinja", "{{ 1 }}")
    assert GoRenderer().named("glm-4.7") == ""
    assert JinjaRenderer().named("../named/glm-4.7") == ""
