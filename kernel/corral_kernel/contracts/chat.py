"""Conversations, and how a chat format turns them into a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class TextPart:
    """A run of prompt text. `special`: control tokens written in it become those tokens."""

    text: str
    special: bool = True


@dataclass(frozen=True, slots=True)
class MediaPart:
    """An image or a sound in a prompt. `kind` is `image` or `audio`, `data` the file's bytes."""

    kind: str
    data: bytes


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of a conversation.

    Args:
        role: Usually `system`, `user`, `assistant` or `tool`; not checked.
        content: The text.
        thinking: An assistant's thought before it.
        tool_calls: An assistant's calls, as the API carries them.
        tool_name: Whose answer a `tool` message is.
        tool_call_id: Which call it answers.
        media: Images and sounds; each is placed at an `[img]` in the text, or before it.
    """

    role: str
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
    media: tuple[MediaPart, ...] = ()


class Conversation(Struct, frozen=True, kw_only=True):
    """What a renderer renders.

    Args:
        messages: In order.
        bos: Text of the token that begins a sequence; empty: none.
        eos: Text of the token that ends one; empty: none.
        now: Seconds since 1970, for templates that print the date.
        tools: That the model may call, as the API carries them.
        think: Whether to think, or how much; None: as the model does.
        suffix: What is to follow the answer, which then fills the gap behind the last message.
    """

    messages: tuple[Message, ...]
    bos: str = ""
    eos: str = ""
    now: float = 0.0
    tools: tuple[dict[str, Any], ...] = ()
    think: bool | str | None = None
    suffix: str = ""


Part = TextPart | MediaPart


class ToolChoice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether an answer may, must or must not be a call.

    Args:
        mode: `auto`: as the model likes; `none`: no call; `required`: a call.
        name: Of the one tool that is to be called, with `required`; empty: any.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    name: str = ""


def name_of(tool: Mapping[str, Any]) -> str:
    """The name of a tool, as OpenAI writes it; empty: it has none."""
    name = (tool.get("function") or {}).get("name")
    return name if isinstance(name, str) else ""


class TemplateTraits(Struct, frozen=True, kw_only=True):
    """What a template has places for.

    Args:
        capabilities: Of `tools`, `insert` and `thinking`.
        tool_round_trip: Whether it shows calls and their results to the model again.
    """

    capabilities: frozenset[str] = frozenset()
    tool_round_trip: bool = False


class ChatRenderer:
    """A template language; named, and chosen by the kernel.

    Attributes:
        name: `jinja`, …
    """

    name: str

    def describe(self, template: str) -> TemplateTraits:
        """Tell what a template has places for, without running it.

        Called in the server, when a model is created and for each request: keep what was found.

        Raises:
            TemplateError: If it does not parse.
        """
        del template
        return TemplateTraits()

    def named(self, renderer: str) -> str:
        """Give a template that renders as one of Ollama's own renderers does; empty: none here.

        Asked in the server, of a model whose config names a renderer and whose weights have no
        template, which would be taken first.
        """
        del renderer
        return ""

    def render(self, template: str, conversation: Conversation) -> Sequence[Part]:
        """Render a conversation to the text from which the model goes on.

        Called on a text thread of a worker, under a deadline that interrupts it.

        Raises:
            TemplateError: If it does not parse, fails, or is over the renderer's bounds.
        """
        raise NotImplementedError
