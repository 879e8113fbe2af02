"""The vocabulary of the tiny chat model; its tokens 3 to 258 are the bytes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.contracts import TextPart, Tokenizer


@pytest.fixture
def tokenizer(greedy: Callable[..., Any], tiny_chat: Path) -> Tokenizer:
    found = greedy(tiny_chat, num_ctx=64).engine.tokenizer
    assert isinstance(found, Tokenizer)
    return found


@pytest.mark.parametrize(
    "text",
    ["", "plain", "a\0b", "é 東京 🎉", " leading and trailing ", "\r\n\t", "x" * 100_000],
    ids=["empty", "plain", "NUL", "wide", "spaces", "controls", "long"],
)
def test_a_text_comes_back_whole(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, special=False)
    assert tokenizer.decode(ids) == text.encode()


def test_surrogates_are_read_as_what_they_can_be(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a\ud83d\ude00b\ud800c", special=False)
    assert tokenizer.decode(ids).decode() == "a😀b\ufffdc"


def test_control_tokens_are_parsed_only_where_asked(tokenizer: Tokenizer) -> None:
    parsed = tokenizer.encode("<|im_end|>", special=True)
    assert len(parsed) == 1
    assert parsed[0] in tokenizer.control_ids
    assert parsed[0] in tokenizer.end_ids
    assert tokenizer.pieces[parsed[0]] == b"<|im_end|>"
    plain = tokenizer.encode("<|im_end|>", special=False)
    assert len(plain) == len("<|im_end|>")
    assert not set(plain) & tokenizer.control_ids


def test_pieces_are_a_sequence_of_all_ids(tokenizer: Tokenizer) -> None:
    pieces = tokenizer.pieces
    assert len(pieces) == 259
    assert list(pieces) == [pieces[i] for i in range(259)] == list(pieces[:])
    assert pieces[-1] == pieces[258]
    with pytest.raises(IndexError):
        pieces[259]


def test_several_threads_may_encode_at_once(tokenizer: Tokenizer) -> None:
    texts = [f"text {i} " * 500 for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: tokenizer.encode(text, special=True), texts))
    assert [tokenizer.decode(ids).decode() for ids in found] == texts


def test_parts_of_a_prompt_are_tokenized_as_they_are_marked(
    greedy: Callable[..., Any], tiny_chat: Path
) -> None:
    engine = greedy(tiny_chat, num_ctx=64).engine
    parts = [
        TextPart("<|im_start|>"),
        TextPart("user<|im_end|>", special=False),
        TextPart("<|im_end|>"),
    ]
    ids = engine.prepare(parts).history()
    assert len(ids) == 1 + len("user<|im_end|>") + 1
    assert [i in engine.tokenizer.control_ids for i in (ids[0], ids[-1])] == [True, True]


def test_a_vocabulary_that_begins_with_a_space_adds_it_only_to_prompts(
    greedy: Callable[..., Any], tiny_spaced: Path
) -> None:
    engine = greedy(tiny_spaced, num_ctx=64).engine
    tokenizer = engine.tokenizer

    def pieces(ids: list[int]) -> list[bytes]:
        return [tokenizer.pieces[i] for i in ids]

    assert pieces(tokenizer.encode("hi", special=False)) == [b"hi"]
    assert pieces(tokenizer.encode(" hi", special=False)) == [b" hi"]
    assert pieces(tokenizer.encode("\nhi", special=False)) == [b"\n", b"hi"]
    assert tokenizer.encode("", special=False) == []
    assert pieces(engine.prepare([TextPart("hi")]).history()) == [b"<s>", b" hi"]
    parts = [TextPart("hi"), TextPart("hi", special=False)]
    assert pieces(engine.prepare(parts).history()) == [b"<s>", b" hi", b"hi"]
