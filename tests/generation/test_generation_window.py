"""What happens when the window is full: the end, or half of it is forgotten."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROMPT = "one two three"
LIVELY = {"presence_penalty": 3.0, "repeat_penalty": 1.2}  # else it says one thing for ever


def shifting(model: Any, prompt: str, window: int, keep: int, count: int) -> str:
    """The likeliest tokens to follow; a full window loses half of what is not kept."""
    ids = model.tokens(prompt)
    row = model.feed(ids)[-1]
    fed, chosen = len(ids), []
    while len(chosen) < count:
        chosen.append(int(row.argmax()))
        if fed == window:
            stop = keep + (fed - keep) // 2
            model.cut(keep, stop)
            fed -= stop - keep
        row = model.feed(chosen[-1:])[-1]
        fed += 1
    return shown(chosen)


@pytest.mark.parametrize(
    ("num_keep", "kept"),
    [(0, 0), (4, 4), (20, 20), (-1, len(PROMPT)), (1000, 28)],
    ids=["none", "some", "more than the prompt", "negative: the prompt", "too many"],
)
async def test_a_full_window_keeps_its_beginning_and_the_later_half_of_the_rest(
    kernel: Any, by_hand: Callable[..., Any], models: Path, num_keep: int, kept: int
) -> None:
    expected = shifting(by_hand(models / "tiny-chat-f32.gguf"), PROMPT, 32, kept, 80)
    assert len(set(expected)) > 5
    answer = await kernel.raw("endless-tiny", PROMPT, num_ctx=32, num_keep=num_keep, num_predict=80)
    assert answer.text == expected
    assert (answer.done.output_tokens, answer.reason) == (80, "length")


async def test_without_shift_a_full_window_ends_the_answer(kernel: Any) -> None:
    going_on = await kernel.raw("endless-tiny", PROMPT, num_ctx=32, num_predict=80)
    ended = await kernel.raw("endless-tiny", PROMPT, num_ctx=32, num_predict=80, shift=False)
    assert ended.reason == "length"
    assert ended.done.output_tokens == 32 - len(PROMPT) + 1  # the last one needs no room
    assert ended.text == going_on.text[: ended.done.output_tokens]


async def test_a_model_whose_memory_cannot_move_goes_on_as_from_a_fresh_prompt(
    kernel: Any,
) -> None:
    window = 64
    shifted = await kernel.generate("endless-gpt2", "Hi", num_ctx=window, num_predict=90, **LIVELY)
    ids = shifted.done.token_ids
    prompt_tokens = shifted.done.prompt_tokens
    assert len(ids) == prompt_tokens + 90
    left = [*ids[:4], *ids[4 + (window - 4) // 2 : window + 1]]
    room = window - len(left)
    prompt = "".join(map(gpt2_piece, left))
    fresh = await kernel.raw("endless-gpt2", prompt, num_ctx=window, num_predict=room, **LIVELY)
    assert fresh.done.prompt_tokens == len(left)
    assert fresh.text == shown(ids[window + 1 : window + 1 + room])


def gpt2_piece(token_id: int) -> str:
    return chr(token_id) if token_id < 128 else {256: "<|endoftext_>"}[token_id]


def shown(token_ids: Sequence[int]) -> str:
    """The text of ids that are a byte each, or hidden."""
    return bytes(i for i in token_ids if i < 256).decode()


async def test_a_shift_does_not_disturb_those_who_share_the_beginning(kernel: Any) -> None:
    options = {"num_ctx": 64, "num_predict": 150}
    alone = [await kernel.raw("endless-tiny", text, **options) for text in (PROMPT, PROMPT + " x")]
    at_once = await asyncio.gather(
        *(kernel.raw("endless-tiny", PROMPT + end, **options) for end in ("", " x", "", " x"))
    )
    assert [answer.text for answer in at_once] == [answer.text for answer in alone] * 2
