"""Each well-known template belongs to a family, which reads the calls that the template shows."""

import runpy
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral_chat import corral_chat_formats
from corral_chat.renderers import JinjaRenderer
from corral_kernel.contracts import AnswerSpec, ChatParser, Conversation, TextPart
from corral_kernel.errors import TemplateError
from corral_kernel.testing.parsers import read

TEMPLATES: dict[str, str] = runpy.run_path(str(Path(__file__).parents[1] / "jinjacases.py"))[
    "TEMPLATES"
]
PARSERS = {
    parser.name: parser for parser in corral_chat_formats() if isinstance(parser, ChatParser)
}
FAMILIES = {
    "apertus": ("Apertus-8B-Instruct",),
    "command-r": ("CohereForAI-c4ai-command-r-plus-tool_use",),
    "command-r7b": (
        "Cohere2MoE",
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    ),
    "deepseek-r1": (
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        "llama-cpp-deepseek-r1",
    ),
    "deepseek-v3.1": ("deepseek-ai-DeepSeek-V3.1",),
    "deepseek-v3.2": (
        "deepseek-ai-DeepSeek-V3.2",
        "deepseek-ai-DeepSeek-V4-Flash-0731",
        "deepseek-ai-DeepSeek-V4",
    ),
    "firefunction": ("fireworks-ai-llama-3-firefunction-v2",),
    "functionary-v3.1": ("meetkai-functionary-medium-v3.1",),
    "functionary-v3.2": ("meetkai-functionary-medium-v3.2",),
    "gemma-channels": (
        "google-gemma-4-31B-it-interleaved",
        "google-gemma-4-31B-it",
    ),
    "gigachat3": ("GigaChat3-10B-A1.8B",),
    "gigachat3.1": ("GigaChat3.1-10B-A1.8B",),
    "glimmer": ("muse-glimmer",),
    "granite": (
        "ibm-granite-granite-3.3-2B-Instruct",
        "plain-ibm-granite-granite-3.0-8b-instruct",
        "plain-ibm-granite-granite-3.x",
        "plain-ibm-granite-granite-4.0",
        "plain-ibm-granite-granite-4.1",
    ),
    "harmony": ("openai-gpt-oss-120b",),
    "hermes": (
        "Bielik-11B-v3.0-Instruct",
        "MiMo-VL",
        "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
        "Qwen-QwQ-32B",
        "Qwen-Qwen2.5-7B-Instruct",
        "Qwen-Qwen3-0.6B",
        "Reka-Edge",
        "ibm-granite-granite-4.0",
        "ibm-granite-granite-4.1",
    ),
    "hy3": ("tencent-Hy3",),
    "keyed": (
        "GLM-4.6",
        "GLM-4.7-Flash",
        "Spark2.5",
        "inclusionai-ling-3.0-flash",
        "poolside-Laguna-S-2.1",
        "poolside-Laguna-XS-2.1",
        "poolside-Laguna-XS.2",
    ),
    "kimi-k2": (
        "Kimi-K2-Instruct",
        "Kimi-K2-Thinking",
        "moonshotai-Kimi-K2",
    ),
    "kimi-k3": ("Kimi-K3",),
    "lfm": ("LFM2.5-8B-A1B",),
    "lfm-bare": ("LFM2.5-Instruct",),
    "lfm-lists": ("LFM2-8B-A1B",),
    "llama3-json": (
        "meta-llama-Llama-3.1-8B-Instruct",
        "meta-llama-Llama-3.2-3B-Instruct",
        "meta-llama-Llama-3.3-70B-Instruct",
    ),
    "minicpm5": ("openbmb-MiniCPM5-1B",),
    "minimax-m2": ("MiniMax-M2",),
    "minimax-m3": ("MiniMax-M3",),
    "mistral-list": (
        "mistralai-Mistral-Nemo-Instruct-2407",
        "plain-Mistral-Large-Instruct-2407-v3",
    ),
    "mistral-named": (
        "Mistral-Small-3.2-24B-Instruct-2506",
        "mistralai-Ministral-3-14B-Reasoning-2512",
        "unsloth-mistral-Devstral-Small-2507",
    ),
    "nemotron-list": ("NVIDIA-Nemotron-Nano-v2",),
    "qwen3-coder": ("Qwen3-Coder",),
    "seed-oss": ("ByteDance-Seed-OSS",),
    "solar-open": ("upstage-Solar-Open-100B",),
    "tool-calls-list": (
        "Apriel-1.6-15b-Thinker-fixed",
        "MiniMax-M1",
        "unsloth-Apriel-1.5",
    ),
    "xml-thinking": (
        "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        "Qwen3.5-4B",
        "StepFun3.5-Flash",
    ),
}
"""Of the others no family is known; most of their templates have no place for tools."""
UNKNOWN = (
    "HuggingFaceTB-SmolLM3-3B",
    "SmolLM2",
    "google-gemma-2-2b-it",
    "llama-cpp-rwkv-world",
    "microsoft-Phi-3.5-mini-instruct",
    "plain-ChatGLM3",
    "plain-ChatGLM4",
    "plain-CohereForAI-c4ai-command-r-plus",
    "plain-DeepSeek-V2",
    "plain-GLMEdge",
    "plain-Infinigence-Megrez-3B-Instruct",
    "plain-Llama-3",
    "plain-MiniCPM-3B-OpenHermes-2.5-v2-GGUF",
    "plain-OrionStarAI-Orion-14B-Chat",
    "plain-Phi-3-medium",
    "plain-Phi-3-mini",
    "plain-Phi-3-small",
    "plain-Phi-3-vision",
    "plain-TheBloke-FusionNet-34Bx2-MoE-AWQ",
    "plain-ai-sage-GigaChat-20B-A3B-instruct",
    "plain-bofenghuang-vigogne-2-70b-chat",
    "plain-deepseek-ai-deepseek-coder-33b-instruct",
    "plain-google-gemma-7b-it",
    "plain-mistralai-Mistral-7B-Instruct-v0.2-v1",
    "plain-mistralai-Mistral-7B-Instruct-v0.2",
    "plain-mistralai-Mistral-Large-Instruct-2411-v7",
    "plain-mlabonne-AlphaMonarch-7B",
    "plain-phi-4",
    "plain-teknium-OpenHermes-2.5-Mistral-7B",
    "plain-yandex-YandexGPT-5-Lite-8B-instruct",
)
SHOWS_ONE = ("GigaChat3-10B-A1.8B", "GigaChat3.1-10B-A1.8B", "openai-gpt-oss-120b")
SHOWS_NONE = (
    *FAMILIES["granite"],
    *("LFM2-8B-A1B", "LFM2.5-Instruct", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B"),
)
REFUSES_TWO = FAMILIES["llama3-json"]
WEATHER = {
    "city": {"type": "string", "description": "Where"},
    "days": {"type": "integer", "description": "How many"},
}
SEARCH = {"q": {"type": "string", "description": "What"}}
CALLS = (("get_weather", {"city": "Oslo", "days": 3}), ("search", {"q": "Paris"}))
USER = {"role": "user", "content": "Hi"}
MARK = "abcdefgh"
RESULT = {
    "role": "tool",
    "tool_name": "get_weather",
    "tool_call_id": f"{MARK}0",
    "content": "sunny",
}


def tool(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [*properties]}
    function = {"name": name, "description": "Does it", "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = (tool("get_weather", WEATHER), tool("search", SEARCH))


def recognised(template: str) -> str:
    return max(sorted(PARSERS), key=lambda name: PARSERS[name].recognises(template))


def rendered(template: str, *messages: dict[str, Any], think: bool) -> str:
    told = {"messages": messages, "tools": TOOLS, "think": think, "now": 1.72e9}
    given = msgspec.convert({**told, "bos": "<s>", "eos": "</s>"}, Conversation)
    (part,) = JinjaRenderer().render(template, given)
    assert isinstance(part, TextPart)
    return part.text


def test_every_template_has_its_family() -> None:
    expected = {name: family for family, names in FAMILIES.items() for name in names}
    expected |= dict.fromkeys(UNKNOWN, "generic")
    assert {name: recognised(template) for name, template in TEMPLATES.items()} == expected


def shown(name: str, count: int, *, think: bool) -> tuple[AnswerSpec, str]:
    """What a template shows of so many calls, as an answer, and what is known of that."""
    template = TEMPLATES[name]
    written = [
        {"id": f"{MARK}{place}", "function": {"name": called, "arguments": arguments}}
        for place, (called, arguments) in enumerate(CALLS[:count])
    ]
    prompt = rendered(template, USER, think=think)
    calling = {"role": "assistant", "content": "", "tool_calls": written}
    whole = rendered(template, USER, calling, RESULT, think=think)
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False))
    asked = prompt[: sum(1 for _ in pairs)]
    if asked != prompt and asked.rpartition("<")[2] in ("", "t", "|", "|START_"):
        asked = asked[: asked.rindex("<")]  # both go on with marks that begin alike
    answer = whole[len(asked) :].partition("sunny")[0]
    spec = AnswerSpec(
        renderer="jinja",
        template=template,
        calls=True,
        tools=TOOLS,
        think=think,
        prompt_end=prompt if asked == prompt else "",
    )
    return spec, answer


@pytest.mark.parametrize("think", [False, True], ids=["answers", "thinks"])
@pytest.mark.parametrize(
    ("name", "count"),
    [
        (name, count)
        for names in FAMILIES.values()
        for name in names
        for count in (1, 2)
        if name not in SHOWS_NONE and not (count == 2 and name in REFUSES_TWO)
    ],
)
def test_calls_are_read_as_the_template_shows_them(name: str, count: int, *, think: bool) -> None:
    spec, answer = shown(name, count, think=think)
    family = PARSERS[recognised(TEMPLATES[name])]
    expected = CALLS[: 1 if name in SHOWS_ONE else count]
    assert read(family, spec, list(answer), "length").calls == expected


@pytest.mark.parametrize("think", [False, True], ids=["answers", "thinks"])
@pytest.mark.parametrize("name", [*SHOWS_NONE, *SHOWS_ONE])
def test_of_some_calls_a_template_shows_nothing(name: str, *, think: bool) -> None:
    _, answer = shown(name, 2, think=think)
    assert ("Oslo" in answer) is (name in SHOWS_ONE)
    assert "Paris" not in answer


@pytest.mark.parametrize("name", REFUSES_TWO)
def test_a_template_may_refuse_two_calls(name: str) -> None:
    with pytest.raises(TemplateError, match="only supports single tool-calls"):
        shown(name, 2, think=False)
