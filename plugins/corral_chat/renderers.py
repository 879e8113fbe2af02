"""The renderers: Jinja, and the plain prompt of models that have no template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from corral_kernel.contracts import ChatRenderer, Conversation, Message, TextPart
from corral_kernel.errors import TemplateError

PLAIN_PROMPT = "{{ .Prompt }}"


class JinjaRenderer(ChatRenderer):
    """Renders the chat templates of GGUF files and Hugging Face models."""

    name = "jinja"

    def render(self, template: str, conversation: Conversation) -> Sequence[TextPart]:
        """Render a conversation; an assistant's message at its end is one to go on with.

        Raises:
            TemplateError: If the template does not parse, fails, or is over the bounds.
        """
        from corral_chat.jinja import render  # Jinja takes a while to import

        return [TextPart(render(template, conversation))]


class PromptRenderer(ChatRenderer):
    """What a model without a template is asked: users' texts and answers, and nothing around them.

    That is the Go template `{{ .Prompt }}`, executed turn by turn; the only one there is here.
    """

    name = "prompt"

    def render(self, template: str, conversation: Conversation) -> Sequence[TextPart]:
        """Render a conversation; system messages are not shown.

        Raises:
            TemplateError: If the template is neither empty nor `{{ .Prompt }}`.
        """
        _check_plain(template)
        return [TextPart("".join(_turns(_merged(conversation.messages))))]


def _check_plain(template: str) -> None:
    if template.strip() not in ("", PLAIN_PROMPT):
        raise TemplateError(
            f"the model has a Go template and no other: this release renders none but "
            f"{PLAIN_PROMPT}; use a model whose GGUF file has a chat template"
        )


def _merged(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """Give role and content, with neighbours of one role as one message; tools' stay apart."""
    role, texts = "", list[str]()
    for message in messages:
        if texts and (message.role != role or role == "tool"):
            yield role, "\n\n".join(texts)
            texts = []
        role = message.role
        texts.append(message.content)
    if texts:
        yield role, "\n\n".join(texts)


def _turns(messages: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Give the text of each turn; the template is executed for a turn when the next one begins."""
    prompt = response = ""
    for role, content in messages:
        if (role == "system" and (prompt or response)) or (role == "user" and response):
            yield prompt + response
            prompt = response = ""
        if role == "user":
            prompt = content
        elif role == "assistant":
            response = content
    yield prompt + response
