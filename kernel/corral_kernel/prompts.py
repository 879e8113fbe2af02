"""Which prompt a completion has: the messages of model and request, and who renders them."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from corral_kernel.calls import CompletionCall
from corral_kernel.contracts import Claim, Message
from corral_kernel.errors import (
    InvalidModelError,
    InvalidRequestError,
    TemplateError,
    UnknownRendererError,
    UnsupportedError,
)
from corral_kernel.frames import PromptSpec
from corral_kernel.models import DEFAULT_TEMPLATE, Model
from corral_kernel.plugins import Plugins

_THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_BILLIONS = re.compile(r"([0-9]+(?:\.[0-9]+)?)B")
_GEMMA4_SIZES = ("e2b", "e4b", "12b", "26b", "31b")
_LARGE_BILLIONS = 12
JINJA = "jinja"
GO = "go"
HARMONY_FAMILIES = ("gptoss", "gpt-oss")
HARMONY_MARKS = ("<|start|>", "<|end|>")
RENDERERS = frozenset(
    [
        "cogito",
        "cohere",
        "deepseek3.1",
        "functiongemma",
        "gemma4",
        "gemma4-large",
        "gemma4-small",
        "glimmer",
        "glm-4.7",
        "glm-ocr",
        "laguna",
        "lfm2",
        "lfm2-thinking",
        "nemotron-3-nano",
        "nemotron-3.5-nano",
        "olmo3",
        "olmo3-32b-think",
        "olmo3-think",
        "olmo3.1",
        "ornith",
        "poolside-v1",
        "qwen3-coder",
        "qwen3-vl-instruct",
        "qwen3-vl-thinking",
        "qwen3.5",
        "qwen3.8",
    ]
)
"""Those that Ollama has built in; each reproduces the template that came with the weights."""


def prompt_spec(
    call: CompletionCall, plugins: Plugins, *, go_template: bool | None = None
) -> PromptSpec:
    """Put together what the worker renders.

    Args:
        call: What is asked.
        plugins: Whose renderers there are.
        go_template: As for `choose_template`.

    Raises:
        TemplateError: If the model has a Go template that does not parse.
        UnsupportedError: If nothing installed renders this model's template.
    """
    if call.raw:
        return PromptSpec(text=call.prompt, cut_middle=call.truncate, think=call.think)
    if call.template:
        renderer, template = GO, call.template
    else:
        renderer, template = choose_template(call.model, plugins, go_template=go_template)
    if renderer not in plugins.renderers:
        raise UnsupportedError(f"no installed plugin renders {renderer!r} templates")
    chat = call.messages is not None
    alone = bool(call.suffix)  # a text with a gap is no conversation
    return PromptSpec(
        renderer=renderer,
        template=template,
        messages=(Message(role="user", content=call.prompt),) if alone else _messages(call),
        context_ids=call.context_ids,
        drop_messages=call.truncate and not (alone or call.template),
        cut_middle=call.truncate and not chat,
        think=call.think,
        suffix=call.suffix,
        tools=shown_tools(call),
    )


def shown_tools(call: CompletionCall) -> tuple[dict[str, Any], ...]:
    """The tools that the model is told of: none where it must not call any."""
    return () if call.tool_choice.mode == "none" else call.tools


def forwarded_prompt(
    call: CompletionCall, plugins: Plugins, claim: Claim, *, go_template: bool | None = None
) -> PromptSpec:
    """Put together what an engine with a loop of its own is given.

    One that takes chats has its own templates: of ours, none is asked for.

    Raises:
        TemplateError: If it takes texts, and nothing installed renders this model's template.
        UnsupportedError: If the rendered prompt is asked for, which only that engine knows.
    """
    if claim.takes == "text":
        spec = prompt_spec(
            msgspec.structs.replace(call, context_ids=()), plugins, go_template=go_template
        )
        return msgspec.structs.replace(spec, drop_messages=False, cut_middle=False)
    if call.render_only:
        raise UnsupportedError(f"the prompt of {call.model.name.short} is not rendered here")
    if call.raw:
        return PromptSpec(text=call.prompt)
    return PromptSpec(
        messages=_messages(msgspec.structs.replace(call, context_ids=())),
        think=call.think,
        tools=call.tools,
    )


def untold(call: CompletionCall, claim: Claim) -> Iterator[str]:
    """Tell what of a request an engine with a loop of its own is not told."""
    if claim.takes == "tokens":
        return
    engine = f"the engine of {call.model.name.short} has a loop of its own"
    if call.context_ids:
        yield f'"context" is ignored: {engine}, and knows no token ids of ours; use /api/chat'
    if call.shift is not None:
        yield f'"shift" is ignored: {engine}'


def choose_template(
    model: Model, plugins: Plugins, *, go_template: bool | None = None
) -> tuple[str, str]:
    """Name of the renderer, and the template.

    Args:
        model: That has a Go template, a Jinja one, both or none.
        plugins: Whose renderers describe them.
        go_template: Of two, whether to take Go's; None: the one that can do more.

    Raises:
        TemplateError: If both are there, and Go's does not parse.
        UnknownRendererError: If it wants a renderer that even Ollama does not have.
        UnsupportedError: If it wants one of Ollama's that nobody has a template for.
    """
    if model.config.renderer:
        if model.jinja_template and model.config.renderer in RENDERERS:
            return JINJA, model.jinja_template  # which that renderer reproduces
        for name, (_, renderer) in plugins.renderers.items():
            if template := renderer.named(_renderer_of(model)):
                return name, template
        if model.config.renderer not in RENDERERS:
            raise UnknownRendererError(model.config.renderer)
        raise UnsupportedError(
            f"{model.name.short} wants the renderer {model.config.renderer!r}, which this release "
            "does not have: send a rendered prompt to /api/generate with raw true"
        )
    if not model.jinja_template:
        return GO, model.template or DEFAULT_TEMPLATE
    if not model.template:
        return JINJA, model.jinja_template
    if go_template is None:
        go_template = not _does_jinja_more(model, plugins)
    if model.config.parser or speaks_harmony(model) or go_template:
        return GO, model.template
    return JINJA, model.jinja_template


def _renderer_of(model: Model) -> str:
    """Name of the renderer that a model wants: `gemma4` is one of two, by the model's size."""
    if model.config.renderer != "gemma4":
        return model.config.renderer
    name = model.name.short.lower()
    sizes = {size for size in _GEMMA4_SIZES if size in name}
    if not sizes:
        billions = _BILLIONS.fullmatch(model.config.model_type)
        is_large = billions is not None and float(billions[1]) >= _LARGE_BILLIONS
        return "gemma4-large" if is_large else "gemma4-small"
    return "gemma4-small" if sizes & {"e2b", "e4b"} else "gemma4-large"


def speaks_harmony(model: Model) -> bool:
    """Whether a model's template has the channels of gpt-oss."""
    return model.family in HARMONY_FAMILIES and all(
        mark in model.template for mark in HARMONY_MARKS
    )


def _does_jinja_more(model: Model, plugins: Plugins) -> bool:
    """Whether the Jinja template has places for what the Go template has none for."""
    if GO not in plugins.renderers or JINJA not in plugins.renderers:
        return GO not in plugins.renderers
    go = plugins.renderers[GO][1].describe(model.template)
    jinja = plugins.renderers[JINJA][1].describe(model.jinja_template)
    if len(jinja.capabilities) > len(go.capabilities):
        return jinja.tool_round_trip or not go.tool_round_trip
    same = jinja.capabilities == go.capabilities and "tools" in go.capabilities
    return same and jinja.tool_round_trip and not go.tool_round_trip


def check_template(template: str, plugins: Plugins) -> None:
    """Refuse a TEMPLATE that does not parse.

    Raises:
        InvalidRequestError: With the parser's words.
    """
    if GO not in plugins.renderers:
        return
    try:
        plugins.renderers[GO][1].describe(template)
    except TemplateError as error:
        raise InvalidRequestError(f"template error: {error}") from error


def _messages(call: CompletionCall) -> tuple[Message, ...]:
    """The conversation as it is rendered."""
    messages = _all_messages(call)
    if call.model.family.startswith("qwen3") or call.model.name.model == "deepseek-r1":
        return _without_thoughts(messages)
    return messages


def _without_thoughts(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Take thoughts out of the texts of assistants before the last question, as Ollama does."""
    last = max((place for place, m in enumerate(messages) if m.role == "user"), default=-1)
    return tuple(
        msgspec.structs.replace(m, content=_THOUGHT.sub("", m.content))
        if place < last and m.role == "assistant" and _THOUGHT.search(m.content)
        else m
        for place, m in enumerate(messages)
    )


def _all_messages(call: CompletionCall) -> tuple[Message, ...]:
    own = () if call.context_ids else tuple(_message(call.model, m) for m in call.model.messages)
    if call.messages is not None:
        messages = (*own, *call.messages)
        given = bool(call.messages) and call.messages[0].role == "system"
        system = "" if given else call.model.system
    else:
        messages = (*own, Message(role="user", content=call.prompt))
        system = call.model.system if call.system is None else call.system
    return (Message(role="system", content=system), *messages) if system else messages


def _message(model: Model, stored: dict[str, Any]) -> Message:
    if stored.get("images") or stored.get("media"):
        raise UnsupportedError(
            f"a message of {model.name.short} holds images; this release takes text alone"
        )
    try:
        return msgspec.convert(stored, Message)
    except msgspec.ValidationError as error:
        raise InvalidModelError(
            f"the messages of {model.name.short} are damaged: {error}; make the model anew"
        ) from None
