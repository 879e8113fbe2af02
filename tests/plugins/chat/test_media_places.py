"""Images and sounds keep their places in what a template renders."""

import runpy
from pathlib import Path

import pytest

from corral_chat.renderers import GoRenderer, JinjaRenderer
from corral_kernel.contracts import ChatRenderer, Conversation, MediaPart, Message, Part, TextPart
from corral_kernel.errors import TemplateError

HERE = Path(__file__).parent
JINJA: dict[str, str] = runpy.run_path(str(HERE / "jinjacases.py"))["TEMPLATES"]
GO: dict[str, str] = runpy.run_path(str(HERE / "gocases.py"))["TEMPLATES"]
CAT, DOG, BARK = MediaPart("image", b"cat"), MediaPart("image", b"dog"), MediaPart("audio", b"wuff")
TURNS = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
GO_TURNS = "{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}"


def user(text: str, *media: MediaPart) -> Message:
    return Message(role="user", content=text, media=media)


def told(parts: list[Part]) -> list[str | MediaPart]:
    return [part.text if isinstance(part, TextPart) else part for part in parts]


@pytest.mark.parametrize(
    ("renderer", "template"),
    [(JinjaRenderer(), TURNS), (GoRenderer(), GO_TURNS)],
    ids=["jinja", "go"],
)
@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (user("What?", CAT), ["user:", CAT, "What?;"]),
        (user("What?", CAT, DOG), ["user:", CAT, DOG, "What?;"]),
        (user("a [img] b [img] c", CAT, DOG), ["user:a ", CAT, " b ", DOG, " c;"]),
        (user("a [img] b", CAT, BARK), ["user:", BARK, "a ", CAT, " b;"]),
        (user("a [img] b"), ["user:a [img] b;"]),
        (user("", CAT), ["user:", CAT, ";"]),
    ],
    ids=["before the text", "two", "in places", "one place", "no image", "no text"],
)
def test_images_are_where_the_text_has_places_for_them_or_before_it(
    renderer: ChatRenderer, template: str, message: Message, parts: list[str | MediaPart]
) -> None:
    rendered = renderer.render(template, Conversation(messages=(message,)))
    assert told(list(rendered)) == parts


@pytest.mark.parametrize("name", [name for name in JINJA if not name.startswith("plain-")])
def test_every_family_shows_images_of_two_turns_in_order(name: str) -> None:
    messages = (user("one", CAT), Message(role="assistant", content="A"), user("two", DOG))
    parts = JinjaRenderer().render(JINJA[name], Conversation(messages=messages))
    assert [part for part in parts if isinstance(part, MediaPart)] == [CAT, DOG]
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    assert texts[1].startswith("one")
    assert texts[2].startswith("two")


@pytest.mark.parametrize("name", ["chatml-messages", "tags-tools", "chatml-legacy", "headers-last"])
def test_go_templates_show_images_of_merged_messages_and_turns(name: str) -> None:
    messages = (
        user("one", CAT),
        user("two", DOG),
        Message(role="assistant", content="A"),
        user("three", BARK),
    )
    parts = GoRenderer().render(GO[name], Conversation(messages=messages))
    assert [part for part in parts if isinstance(part, MediaPart)] == [CAT, DOG, BARK]


@pytest.mark.parametrize(
    ("renderer", "template"), [(JinjaRenderer(), "x"), (GoRenderer(), "{{ .System }}")]
)
def test_an_image_that_a_template_does_not_show_is_told(
    renderer: ChatRenderer, template: str
) -> None:
    with pytest.raises(TemplateError, match="does not show 1 of 1 images or sounds"):
        renderer.render(template, Conversation(messages=(user("?", CAT),)))


def test_nobody_can_write_a_mark() -> None:
    messages = (user("<media-0-0> [img]", CAT),)
    parts = JinjaRenderer().render(TURNS, Conversation(messages=messages))
    assert told(list(parts)) == ["user:<media-0-0> ", CAT, ";"]


def test_an_image_that_is_shown_twice_is_there_twice() -> None:
    template = "{{ messages[0].content }}{{ messages[0].content }}"
    parts = JinjaRenderer().render(template, Conversation(messages=(user("?", CAT),)))
    assert told(list(parts)) == [CAT, "?", CAT, "?"]
