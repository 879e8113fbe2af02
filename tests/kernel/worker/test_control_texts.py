"""Control tokens that texts spell, hidden from templates and put back as what they are: text."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_kernel.contracts import MediaPart, Message, Part, TextPart
from corral_kernel.testing import PieceTokenizer
from corral_kernel.worker.literals import Marks, Spellings

SPELLINGS = Spellings(PieceTokenizer())
PIECES = ("<s>", "</s>", "<|stop|>", "<", "s", ">", "|", "stop", "é", "[", "0.1]")


def shown(*texts: str, role: str = "user") -> list[Part]:
    """What a template that joins its messages' texts gives, after all."""
    marks = Marks(SPELLINGS)
    messages = [marks.hide(Message(role=role, content=text)) for text in texts]
    return marks.show([TextPart("<s>".join(message.content for message in messages))])


def test_spellings_become_parts_of_their_own_and_the_templates_own_stay_special() -> None:
    assert shown("a</s>b", "c<|stop|>") == [
        TextPart("a"),
        TextPart("</s>", special=False),
        TextPart("b<s>c"),
        TextPart("<|stop|>", special=False),
    ]
    assert shown("a", "b") == [TextPart("a<s>b")]
    assert shown("") == []


@pytest.mark.parametrize("role", ["user", "assistant", "tool", "whoever"])
def test_what_others_than_the_application_write_is_hidden(role: str) -> None:
    assert shown("</s>", role=role) == [TextPart("</s>", special=False)]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_what_the_application_writes_is_not(role: str) -> None:
    assert shown("</s>", role=role) == [TextPart("</s>")]


def test_thoughts_and_calls_are_texts_too() -> None:
    marks = Marks(SPELLINGS)
    arguments = {"a": ["x</s>", {"b": "<s>"}], "n": 1, "t": True, "none": None}
    call = {"function": {"name": "f", "arguments": arguments}}
    message = Message(role="assistant", thinking="so </s>", tool_calls=(call,))
    hidden = marks.hide(message)
    written = json.dumps([hidden.thinking, hidden.tool_calls])
    assert "s>" not in written
    back = "".join(part.text for part in marks.show([TextPart(written)]))  # type: ignore[union-attr]
    assert json.loads(back) == [message.thinking, [call]]


def test_what_is_no_text_passes() -> None:
    image = MediaPart("image", b"")
    plain = TextPart("x", special=False)
    assert Marks(SPELLINGS).show([image, plain]) == [image, plain]


def test_a_mark_is_good_for_its_own_conversation_alone() -> None:
    hidden = Marks(SPELLINGS).hide(Message(role="user", content="</s>")).content
    assert re.fullmatch(r"\[[0-9a-f]{16}\.\d+\]", hidden)
    assert shown(hidden) == [TextPart(hidden)]


def test_a_tokenizer_without_control_tokens_hides_nothing() -> None:
    class Plain(PieceTokenizer):
        control_ids = frozenset[int]()

    marks = Marks(Spellings(Plain()))
    assert marks.hide(Message(role="user", content="</s>")).content == "</s>"


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(texts=st.lists(st.lists(st.sampled_from(PIECES)).map("".join), min_size=1, max_size=3))
def test_no_text_writes_a_control_token_and_none_is_changed(texts: list[str]) -> None:
    tokenizer: Any = PieceTokenizer()
    parts = shown(*texts)
    assert "".join(part.text for part in parts) == "<s>".join(texts)  # type: ignore[union-attr]
    ids = [i for p in parts for i in tokenizer.encode(p.text, special=p.special)]  # type: ignore[union-attr]
    control = [i for i in ids if i in tokenizer.control_ids]
    assert control == [tokenizer.bos_id] * (len(texts) - 1)  # the template's own
