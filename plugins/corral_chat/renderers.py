"""The renderers: Jinja, and Go's templates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

import msgspec

from corral_chat.media import Places
from corral_kernel.contracts import ChatRenderer, Conversation, Part, TemplateTraits

_DESCRIBED = 256
"""So many templates' traits are kept."""


class JinjaRenderer(ChatRenderer):
    """Renders the chat templates of GGUF files and Hugging Face models."""

    name = "jinja"

    def describe(self, template: str) -> TemplateTraits:
        """Tell what a template has places for, by the words in it."""
        return _jinja_traits(template)

    def named(self, renderer: str) -> str:
        """Give the file of that name in `named/`, or that of its variant."""
        return _named_templates().get(renderer, "")

    def render(self, template: str, conversation: Conversation) -> Sequence[Part]:
        """Render a conversation; an assistant's message at its end is one to go on with.

        Raises:
            TemplateError: If the template does not parse, fails, or is over the bounds.
        """
        from corral_chat.jinja import render  # Jinja takes a while to import

        places = Places(conversation.messages)
        marked = msgspec.structs.replace(conversation, messages=places.messages)
        return places.parts(render(template, marked))


class GoRenderer(ChatRenderer):
    """Renders the templates of Modelfiles, which are written in Go's text/template.

    An empty one is `{{ .Prompt }}`: users' texts and answers, and nothing around them.
    """

    name = "go"

    def describe(self, template: str) -> TemplateTraits:
        """Tell what a template has places for, by the fields that it uses.

        Raises:
            TemplateError: If it does not parse, or is over the bounds.
        """
        return _go_traits(template)

    def render(self, template: str, conversation: Conversation) -> Sequence[Part]:
        """Render a conversation; an assistant's message at its end is one to go on with.

        Raises:
            TemplateError: If the template does not parse, fails, or is over the bounds.
        """
        from corral_chat.gotemplate.chat import render

        places = Places(conversation.messages)
        marked = msgspec.structs.replace(conversation, messages=places.messages)
        return places.parts(render(template or PLAIN_PROMPT, marked))


_VARIANTS: Final = {
    "gemma4-small": ("gemma4-large", "is_small"),
    "lfm2-thinking": ("lfm2", "keeps_thoughts"),
    "nemotron-3.5-nano": ("nemotron-3-nano", "is_later"),
    "ornith": ("qwen3.5", "keeps_thoughts"),
}
"""Renderers by the files of others, and what is true for them there."""


@cache
def _named_templates() -> dict[str, str]:
    folder = Path(__file__).with_name("named")
    found = {path.stem: path.read_text("utf-8") for path in folder.glob("*.jinja")}
    variants = {
        name: f"{{%- set {fact} = true %}}{found[file]}" for name, (file, fact) in _VARIANTS.items()
    }
    return found | variants


PLAIN_PROMPT = "{{ .Prompt }}"


@lru_cache(_DESCRIBED)
def _jinja_traits(template: str) -> TemplateTraits:
    from corral_chat.traits import jinja_traits

    return jinja_traits(template)


@lru_cache(_DESCRIBED)
def _go_traits(template: str) -> TemplateTraits:
    from corral_chat.traits import go_traits

    return go_traits(template)
