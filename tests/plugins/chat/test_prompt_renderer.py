import pytest

from corral_chat.renderers import PromptRenderer
from corral_kernel.contracts import Conversation, Message, TextPart
from corral_kernel.errors import TemplateError


def messages(*pairs: str) -> tuple[Message, ...]:
    return tuple(Message(role=role, content=text) for role, text in (p.split(":") for p in pairs))


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        (["user:Hi"], "Hi"),
        (["system:S", "user:Hi"], "Hi"),
        (["user:A", "assistant:B", "user:C"], "ABC"),
        (["user:A", "assistant:B"], "AB"),
        (["user:A", "user:B"], "A\n\nB"),
        (["user:A", "assistant:B", "assistant:C", "user:D"], "AB\n\nCD"),
        (["user:A", "system:S", "user:B"], "AB"),
        (["user:A", "tool:T", "user:B"], "B"),
        (["system:S"], ""),
        ([], ""),
    ],
    ids=lambda value: "+".join(turn[0] for turn in value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("template", ["", "{{ .Prompt }}"], ids=["none", "plain"])
def test_a_model_without_a_template_is_asked_turn_by_turn(
    template: str, turns: list[str], text: str
) -> None:
    parts = PromptRenderer().render(template, Conversation(messages=messages(*turns)))
    assert parts == [TextPart(text, special=True)]


def test_go_templates_are_refused_by_name() -> None:
    renderer = PromptRenderer()
    with pytest.raises(TemplateError, match="Go template"):
        renderer.render("{{ .System }} {{ .Prompt }}", Conversation(messages=()))
