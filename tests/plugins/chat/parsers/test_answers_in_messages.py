"""Answers in messages, by gpt-oss and Glimmer: headers, and what is shown of those cut short."""

import msgspec
import pytest

from corral_chat.parsing.families import families
from corral_kernel.contracts import AnswerSpec, Content, EndReason, OutputEvent, Thought
from corral_kernel.testing.parsers import Read, check_reading, read, tokens_of

BY_NAME = {family.name: family for family in families()}
PARIS = ("search", {"q": "Paris"})
HARMONY_CALL = (
    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>"
    "I will look.<|end|><|start|>assistant<|channel|>commentary to=functions.search "
    '<|constrain|>json<|message|>{"q": "Paris"}'
)
GLIMMER_CALL = (
    " to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>I will look.<|eom|>"
    "<|start|>assistant to=search<|message|><atem:function_calls>\n"
    '<atem:invoke name="search">\n<atem:parameter name="q">Paris</atem:parameter>\n</atem:invoke>'
)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("harmony", "<|channel|>"),
        ("harmony", "<|channel|>analysis"),
        ("harmony", "<|channel|>comment"),
        ("harmony", "<|channel|>commentary"),
        ("harmony", "<|start|>"),
        ("harmony", "<|start|>assistant"),
        ("harmony", "<|start|>assistant<|channel|>final"),
        ("glimmer", " to=user"),
        ("glimmer", "<|start|>assistant to="),
        ("glimmer", "<|start|>assistant to=self"),
    ],
)
@pytest.mark.parametrize("reason", ["length", "stop"])
def test_a_header_that_says_nothing_is_not_shown(
    name: str, header: str, reason: EndReason, spec: AnswerSpec
) -> None:
    assert check_reading(BY_NAME[name], spec, header, reason) == Read()


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("harmony", "<|channel|>commentary to=functions.sea"),
        ("harmony", " to=functions.search<|channel|>comm"),
        ("harmony", "<|channel|>commentary to=functions.search <|constrain|>json"),
        ("harmony", "<|start|>assistant<|channel|>unheard"),
        ("harmony", "<|start|>user"),
        ("harmony", "<|channel|>analysis of words"),
        ("harmony", "analysis"),
        ("glimmer", " to=sea"),
        ("glimmer", "<|start|>assistant to=nobody"),
        ("glimmer", "<|start|>tool search"),
    ],
)
@pytest.mark.parametrize("end", ["", "<|start|>"], ids=["the answer ends", "another begins"])
def test_a_header_that_nothing_closes_is_text_as_it_was_written(
    name: str, header: str, end: str, spec: AnswerSpec
) -> None:
    assert check_reading(BY_NAME[name], spec, header + end) == Read(header)


@pytest.mark.parametrize(
    ("name", "text"),
    [("harmony", HARMONY_CALL), ("glimmer", GLIMMER_CALL)],
    ids=["harmony", "glimmer"],
)
def test_what_is_shown_of_a_call_that_was_cut_can_be_read_as_its_beginning(
    name: str, text: str, spec: AnswerSpec
) -> None:
    named = text.index("to=functions." if name == "harmony" else "to=search") + len("to=f")
    for end in range(named, len(text)):
        found = check_reading(BY_NAME[name], spec, text[:end], "length")
        assert found.thinking == "Hm."
        shown = found.content.removeprefix("I will look.")
        assert text[:end].endswith(shown)
        assert shown.startswith("<|start|>assistant")
        assert read(BY_NAME[name], spec, [shown + text[end:]]) == Read(calls=(PARIS,))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("harmony", "<|channel|>unheard<|message|>Yes.", Read("Yes.")),
        ("harmony", "<|channel|><|message|>Yes.", Read("Yes.")),
        ("harmony", "<|channel|>analysis at once<|message|>Hm.", Read(" at once", "Hm.")),
        (
            "harmony",
            "<|channel|>unheard to=functions.search<|message|>Yes.",
            Read("<|channel|>unheard to=functions.search<|message|>Yes."),
        ),
        (
            "harmony",
            "<|channel|>commentary to=functions.<|message|>{}",
            Read("<|channel|>commentary to=functions.<|message|>{}"),
        ),
        (
            "harmony",
            "<|channel|>final<|channel|>unheard<|message|>Yes.",
            Read("<|channel|>final<|channel|>unheard<|message|>Yes."),
        ),
        (
            "harmony",
            '<|channel|>commentary now to=functions.search<|message|>{"q": "Paris"}<|call|>',
            Read(" now ", "", (PARIS,)),
        ),
        (
            "harmony",
            "<|channel|>commentary now to=functions.search<|message|>{",
            Read("<|channel|>commentary now to=functions.search<|message|>{"),
        ),
        ("glimmer", "So: to=user<|message|>Yes.", Read("So:Yes.")),
        (
            "glimmer",
            "<|start|>tool search<|message|>Yes.",
            Read("<|start|>tool search<|message|>Yes."),
        ),
    ],
)
def test_what_no_header_has_is_text(name: str, text: str, expected: Read, spec: AnswerSpec) -> None:
    assert check_reading(BY_NAME[name], spec, text, "length") == expected


def test_a_call_of_glimmer_that_does_not_count_is_text_with_its_header(spec: AnswerSpec) -> None:
    text = GLIMMER_CALL.partition("assistant")[2].rpartition("assistant")[2]
    none = msgspec.structs.replace(spec, calls=False)
    assert check_reading(BY_NAME["glimmer"], none, text) == Read(text)


def test_text_comes_as_it_is_written_and_headers_never(spec: AnswerSpec) -> None:
    parser = BY_NAME["harmony"].start(spec)
    told: list[OutputEvent] = []
    for token in tokens_of(HARMONY_CALL):
        found = parser.feed(token)
        assert found in ([], [Thought(token)], [Content(token)])
        told += found
    assert told == [
        *(Thought("Hm"), Thought(".")),
        *(Content("I"), Content(" will"), Content(" look"), Content(".")),
    ]
