"""Prompts that are too long: which messages go, and which tokens of the middle."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import PromptTooLongError, RemoteJobError

pytestmark = pytest.mark.asyncio(loop_scope="module")
Turn = tuple[str, str]

WINDOW = 128
USER_FIRST = (
    "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}"
    "{% for m in messages %}{{ m.content }}|{% endfor %}"
)


def tokens(turns: Sequence[Turn]) -> int:
    """Of a conversation in the tiny model's template: a byte each, a mark one."""
    return sum(len(f"-{role}\n{text}-\n") for role, text in turns) + len("-assistant\n")


def surviving(turns: Sequence[Turn], window: int) -> list[Turn]:
    """The contract's way: one after the other from the oldest, those of the system stay."""
    for start in range(len(turns)):
        kept = [turn for turn in turns[:start] if turn[0] == "system"] + list(turns[start:])
        if tokens(kept) <= window:
            return kept
    return kept


def rendered(turns: Sequence[Turn]) -> str:
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return text + "<|im_start|>assistant\n"


def conversation(seed: int) -> list[Turn]:
    """One that does not fit, of which the system's messages and the last one do."""
    dice = random.Random(seed)
    turns = [
        (dice.choice(["user", "assistant", "user", "system"]), "x" * dice.randrange(1, 40))
        for _ in range(dice.randrange(4, 14))
    ]
    turns.append(("user", "last"))
    must = [turn for turn in turns[:-1] if turn[0] == "system"] + turns[-1:]
    return turns if tokens(turns) > WINDOW >= tokens(must) else conversation(seed + 1000)


@pytest.mark.parametrize("seed", range(12))
async def test_the_oldest_messages_vanish_first_but_those_of_the_system(
    kernel: Any, seed: int
) -> None:
    turns = conversation(seed)
    kept = surviving(turns, WINDOW)
    answer = await kernel.chat("tiny", *turns, num_ctx=WINDOW, render_only=True)
    assert answer.accepted.rendered == rendered(kept)
    assert answer.accepted.dropped_messages == len(turns) - len(kept) > 0
    assert answer.accepted.prompt_tokens == tokens(kept) <= WINDOW


async def test_a_conversation_that_fits_exactly_is_left_whole(kernel: Any) -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "")]
    turns[2] = ("user", "c" * (WINDOW - tokens(turns)))
    answer = await kernel.chat("tiny", *turns, num_ctx=WINDOW, num_predict=1)
    assert (answer.done.prompt_tokens, answer.accepted.dropped_messages) == (WINDOW, 0)
    turns[2] = ("user", turns[2][1] + "c")
    answer = await kernel.chat("tiny", *turns, num_ctx=WINDOW, num_predict=1)
    assert answer.accepted.dropped_messages == 1


async def test_a_long_conversation_is_rendered_a_few_times_only(kernel: Any) -> None:
    turns = [("user", "x" * 20)] * 5_000  # each of 5,000 renderings would take milliseconds
    answer = await kernel.chat("tiny", *turns, num_ctx=WINDOW, render_only=True)
    kept = surviving(turns[-5:], WINDOW)
    assert answer.accepted.rendered == rendered(kept)
    assert answer.accepted.dropped_messages == 5_000 - len(kept)


@pytest.mark.parametrize("truncate", [True, False], ids=["truncated", "not truncated"])
async def test_a_last_message_that_is_too_long_is_an_error(kernel: Any, *, truncate: bool) -> None:
    turns = [("system", "be brief"), ("user", "first"), ("user", "x" * WINDOW)]
    with pytest.raises(RemoteJobError) as caught:
        await kernel.chat("tiny", *turns, num_ctx=WINDOW, truncate=truncate)
    assert caught.value.remote_code == PromptTooLongError.code


async def test_nothing_is_dropped_where_truncation_is_off(kernel: Any) -> None:
    with pytest.raises(RemoteJobError) as caught:
        await kernel.chat("tiny", *["x" * 40] * 4, num_ctx=WINDOW, truncate=False)
    assert caught.value.remote_code == PromptTooLongError.code


async def test_where_the_template_refuses_what_is_left_one_more_message_goes(
    kernel: Any, models: Path, with_template: Callable[..., bytes]
) -> None:
    data = (models / "tiny-chat-f32.gguf").read_bytes()
    kernel.create("strict", with_template(data, USER_FIRST))
    turns = [("user", "u" * 40), ("assistant", "a" * 40)] * 3 + [("user", "last")]
    answer = await kernel.chat("strict", *turns, num_ctx=WINDOW, render_only=True)
    # Four messages of 41 would fit beside the last one less one: but then the assistant's is first.
    assert answer.accepted.rendered == "u" * 40 + "|" + "a" * 40 + "|last|"


# ------------------------------------------------------------------------- tokens of the middle


def cut(ids: Sequence[int], window: int, keep: int) -> list[int]:
    """The contract's way: the first few, and the tail that leaves half of the rest free."""
    keep = min(keep, window - 1)
    length = window - max((window - keep) // 2, 1)
    tail = length - keep
    return [*ids[:keep], *ids[len(ids) - tail :]]


@pytest.mark.parametrize(
    ("num_keep", "kept"), [(0, 0), (4, 4), (11, 11), (-1, 63), (1000, 63)], ids=str
)
async def test_a_prompt_that_is_too_long_loses_its_middle(
    kernel: Any, num_keep: int, kept: int
) -> None:
    prompt = "".join(random.Random(4).choices("abcdefgh", k=100))
    options = {"num_ctx": 64, "num_keep": num_keep}
    answer = await kernel.generate("plain", prompt, **options, num_predict=3)
    expected = cut(list(prompt.encode()), 64, kept)
    assert list(answer.done.token_ids[: answer.done.prompt_tokens]) == expected
    assert answer.accepted.dropped_tokens == 100 - len(expected)
    assert answer.accepted.prompt_tokens == len(expected)


async def test_a_token_that_begins_every_prompt_is_kept_besides(
    kernel: Any, models: Path, with_value: Callable[..., bytes]
) -> None:
    data = (models / "gpt2byte-f16.gguf").read_bytes()
    kernel.create("bos", with_value(data, "tokenizer.ggml.add_bos_token", "?", 1))
    prompt = "0123456789" * 10
    answer = await kernel.raw("bos", prompt, num_ctx=64, num_keep=4, num_predict=1)
    # 101 tokens; 1 + 4 are kept, of the other 59 positions 29 stay free: 64 - 29 = 35.
    assert (answer.done.prompt_tokens, answer.accepted.dropped_tokens) == (35, 66)


async def test_a_prompt_of_one_less_than_the_window_is_left_whole(kernel: Any) -> None:
    for length, dropped in ((63, 0), (64, 34 - 4)):
        answer = await kernel.raw("tiny", "x" * length, num_ctx=64, num_predict=1)
        assert answer.accepted.dropped_tokens == dropped, length


@pytest.mark.parametrize("fields", [{"shift": False}, {"truncate": False}], ids=str)
async def test_a_prompt_that_may_not_be_cut_is_an_error(
    kernel: Any, fields: dict[str, bool]
) -> None:
    with pytest.raises(RemoteJobError) as caught:
        await kernel.raw("tiny", "x" * 65, num_ctx=64, **fields)
    assert caught.value.remote_code == PromptTooLongError.code


async def test_a_generation_loses_old_messages_before_it_loses_tokens(kernel: Any) -> None:
    old = [{"role": "user", "content": "u" * 30}, {"role": "assistant", "content": "a" * 30}]
    kernel.create("talked", base="tiny", messages=old, system="s")
    answer = await kernel.generate("talked", "x" * 40, num_ctx=WINDOW, num_predict=1)
    assert answer.accepted.dropped_messages == 1  # 140 tokens, then 103
    assert answer.accepted.dropped_tokens == 0
    answer = await kernel.generate("talked", "x" * 140, num_ctx=WINDOW, num_predict=1)
    assert answer.accepted.dropped_messages == 2
    assert answer.accepted.dropped_tokens > 0
