"""Our tokenizers give what the library's give, and bear what the library's do not."""

import ctypes
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_ctransformers.layouts import LAYOUTS
from corral_ctransformers.merging import merge

PARTS = [
    "the", " the", "ing", " a", "12", "  ", "\n\n", "\n", "'s", "'ll", " ", "x", "Z", "9", "!",
    "?", " ,", "\t", "thing", "there", "ü", "ï", "🦙", "Ü", "日本", "<|end|>", "### End",
]  # fmt: skip


def texts(count: int = 200) -> list[str]:
    chooser = random.Random(3)
    made = ["".join(chooser.choices(PARTS, k=chooser.randrange(1, 30))) for _ in range(count)]
    return ["one two the", "Hello, world! It's 12 o'clock...\n\n  done", *made]


def by_library(engine: Any, text: str) -> list[int]:
    """By its C interface: `LLM.tokenize` makes too little room for letters of several bytes."""
    room = (ctypes.c_int * (4 * len(text) + 8))()
    count = engine._native._llm.ctransformers_llm_tokenize(text.encode(), False, room)  # noqa: FBT003 (native)
    return room[:count]


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_texts_become_the_ids_that_the_library_gives(
    architecture: str, open_engine: Callable[..., Any], written: Callable[..., Path]
) -> None:
    engine = open_engine(written(architecture), model_type=architecture)
    # What the library always reads as control tokens is asked for here.
    special = architecture in ("gpt_bigcode", "dolly-v2")
    for text in texts():
        if architecture == "replit" and set(text) & set("ü日本"):
            continue  # of a letter that no token writes: see below
        ids = engine.tokenizer.encode(text, special=special)
        assert ids == by_library(engine, text), repr(text)


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_pieces_are_the_bytes_of_the_text(
    architecture: str, open_engine: Callable[..., Any], written: Callable[..., Path]
) -> None:
    tokenizer = open_engine(written(architecture), model_type=architecture).tokenizer
    for text in texts(50):
        if architecture == "replit" and set(text) & set("ü日本"):
            continue
        ids = tokenizer.encode(text, special=False)
        assert tokenizer.decode(ids) == text.encode()
        assert not tokenizer.control_ids & set(ids)


@pytest.mark.parametrize(
    ("architecture", "mark"),
    [
        ("gpt2", "<|endoftext|>"),
        ("gptj", "<|endoftext|>"),
        ("mpt", "<|endoftext|>"),
        ("replit", "<|endoftext|>"),
        ("gpt_bigcode", "<|end|>"),
        ("dolly-v2", "### End"),
        ("falcon", "<|endoftext|>"),
        ("llama", "</s>"),
    ],
)
def test_control_tokens_are_read_where_asked_for_and_nowhere_else(
    architecture: str, mark: str, open_engine: Callable[..., Any], written: Callable[..., Path]
) -> None:
    tokenizer = open_engine(written(architecture), model_type=architecture).tokenizer
    text = f"the{mark}a"
    read = tokenizer.encode(text, special=True)
    assert tokenizer.decode(read) == text.encode()
    assert len(tokenizer.control_ids & set(read)) == 1
    assert tokenizer.end_ids & set(read)
    assert not tokenizer.control_ids & set(tokenizer.encode(text, special=False))


def test_a_letter_that_no_token_writes_costs_that_letter_alone(
    open_engine: Callable[..., Any], written: Callable[..., Path]
) -> None:
    engine = open_engine(written("replit"), model_type="replit")
    assert by_library(engine, "the 日 end") == [0]
    ids = engine.tokenizer.encode("the 日 end", special=False)
    assert ids.count(0) == 1
    assert engine.tokenizer.decode(ids) == b"the <unk> end"


def test_a_llamas_prompt_begins_with_a_space_and_one_bos(
    open_engine: Callable[..., Any], written: Callable[..., Path]
) -> None:
    from corral_kernel.contracts import TextPart

    engine = open_engine(written("llama"))
    space = engine.tokenizer.encode(" ", special=False)
    plain = engine.prepare([TextPart("one")]).history()
    assert plain[:2] == [1, *space]
    assert engine.prepare([TextPart("<s>one", special=True)]).history().count(1) == 1


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_very_long_and_strange_texts_are_read(
    architecture: str, open_engine: Callable[..., Any], written: Callable[..., Path]
) -> None:
    tokenizer = open_engine(written(architecture), model_type=architecture).tokenizer
    for text in ("a" * 200_000, " " * 50_000, "x\0y", "\ud800", "'" * 10_000):
        ids = tokenizer.encode(text, special=False)
        assert ids
        if text.isascii():
            assert tokenizer.decode(ids) == text.encode()


def test_the_librarys_own_ends_the_process_for_such_a_text(
    tmp_path: Path, gpt2: Path, child_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "a" * 200_000

    def tokenize(model_type: str, path: str) -> str:
        import ctransformers

        model = ctransformers.LLM(path, model_type, lib=None)
        model.tokenize(long)
        return "text\t"

    monkeypatch.setattr(child_module, "bare", tokenize)
    assert child_module.tried("bare", "gpt2", str(gpt2))[0] == "died"


def test_text_threads_need_no_turn_beside_the_engine(
    greedy: Callable[..., Any], gpt2: Path
) -> None:
    loop = greedy(gpt2, model_type="gpt2")
    tokenizer = loop.engine.tokenizer
    stop = threading.Event()
    wrong: list[str] = []

    def tokenize() -> None:
        while not stop.is_set():
            read = {text: tokenizer.encode(text, special=False) for text in texts(20)}
            wrong.extend(t for t, ids in read.items() if tokenizer.decode(ids) != t.encode())

    threads = [threading.Thread(target=tokenize) for _ in range(3)]
    for thread in threads:
        thread.start()
    answers = {loop.answer("one two", 50) for _ in range(10)}
    stop.set()
    for thread in threads:
        thread.join()
    assert answers == {" three four five six seven eight nine ten."}
    assert not wrong


def test_neighbours_are_merged_in_the_order_of_their_ranks() -> None:
    order = {(b"a", b"b"): 2, (b"b", b"c"): 1, (b"a", b"bc"): 3}
    assert merge([b"a", b"b", b"c", b"a"], lambda *pair: order.get(pair)) == [b"abc", b"a"]
    assert merge([b"a", b"a", b"a"], lambda *pair: 0 if pair == (b"a", b"a") else None) == [
        b"aa",
        b"a",
    ]
    assert merge([], lambda *_: 0) == []
