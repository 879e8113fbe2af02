"""Options that choose tokens, seeds, and log-probabilities."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")
# All filters off: what one of them does is then its own.
HOT = {
    "temperature": 1.5,
    "seed": 7,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "num_predict": 40,
}
PROMPT = "the quick brown fox"


async def hot(kernel: Any, **options: Any) -> str:
    answer = await kernel.raw("endless-tiny", PROMPT, **{**HOT, **options})
    return str(answer.text)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"seed": 8},
        {"seed": 0},
        {"seed": -2},
        {"top_k": 3},
        {"top_p": 0.5},
        {"min_p": 0.3},
        {"typical_p": 0.3},
        {"repeat_penalty": 1.8},
        {"presence_penalty": 3.0},
        {"frequency_penalty": 2.0},
        {"num_predict": 20},
        {"stop": [" "]},
    ],
    ids=lambda options: "-".join(f"{name}-{value}" for name, value in options.items()),
)
async def test_every_option_shows(kernel: Any, options: dict[str, Any]) -> None:
    assert await hot(kernel, **options) != await hot(kernel)


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}, {"temperature": 1e-30}],
    ids=str,
)
async def test_the_narrowest_setting_is_greedy(
    kernel: Any, by_hand: Callable[..., Any], models: Path, options: dict[str, Any]
) -> None:
    model = by_hand(models / "tiny-chat-f32.gguf")
    likeliest = model.greedy(model.tokens(PROMPT), 40)
    assert await hot(kernel, **options) == bytes(i for i in likeliest if i < 256).decode()


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": -1},
        {"top_k": 10_000},
        {"top_p": 2.0},
        {"typical_p": 1.5},
        {"min_p": -1.0},
        {"repeat_last_n": 0, "repeat_penalty": 1.8, "presence_penalty": 3.0},
        {"num_keep": 9},
        {"seed": 7.9},
        {"mirostat": 0},
    ],
    ids=str,
)
async def test_a_setting_that_is_off_changes_nothing(kernel: Any, options: dict[str, Any]) -> None:
    assert await hot(kernel, **options) == await hot(kernel)


async def test_penalties_look_back_as_far_as_they_are_told(kernel: Any) -> None:
    """The greedy answer to a row of numbers changes once a penalty sees the last number."""
    penalty = {"temperature": 0, "presence_penalty": 50.0, "num_predict": 1}
    seen: dict[int, str] = {}
    for last in (0, 1, 4, -1):
        seen[last] = (await kernel.raw("tiny", "one two ", repeat_last_n=last, **penalty)).text
    assert seen[0] == "t"  # of "three", and six positions back in "two"
    assert seen[1] == "t"
    assert seen[4] != "t"
    assert seen[-1] not in "one two "


async def test_a_request_goes_over_the_model_and_null_is_as_good_as_absent(kernel: Any) -> None:
    kernel.create("short", base="tiny", parameters={"num_predict": 3, "temperature": 0})
    for options, length in (({"num_predict": None}, 3), ({"num_predict": 5}, 5)):
        answer = await kernel.raw("short", "one two", **options)
        assert len(answer.text) == length


# -------------------------------------------------------------------------------------- seeds


async def test_a_seed_decides_the_answer(kernel: Any) -> None:
    assert await hot(kernel) == await hot(kernel)
    assert len({await hot(kernel, seed=seed) for seed in range(6)}) == 6
    assert len({await hot(kernel, seed=-1) for _ in range(4)}) == 4


async def test_a_seed_decides_the_same_beside_other_jobs(kernel: Any) -> None:
    alone = [await hot(kernel, seed=seed) for seed in range(8)]
    assert await asyncio.gather(*(hot(kernel, seed=seed) for seed in range(8))) == alone


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.8}, HOT], ids=str)
async def test_drafts_change_no_answer_and_save_steps(kernel: Any, options: dict[str, Any]) -> None:
    prompt = "one two three four five six seven eight nine ten. " * 3 + "one two"
    options = {"seed": 5, "num_predict": 60, **options}
    plain = await kernel.raw("endless-tiny", prompt, **options)
    drafted = await kernel.raw("endless-tiny", prompt, **options, draft_num_predict=6)
    assert drafted.text == plain.text
    assert drafted.done.output_tokens == plain.done.output_tokens == plain.done.steps
    assert drafted.done.steps <= plain.done.steps
    if options["temperature"] == 0:
        assert drafted.done.steps < plain.done.steps * 0.9


async def test_drafts_keep_to_limits_stops_and_the_window(kernel: Any) -> None:
    cases: list[dict[str, Any]] = [
        {"num_predict": 5},
        {"stop": ["ten"]},
        {"shift": False},
        {"num_predict": 150},
        {"num_predict": 150, "num_keep": 30},
    ]
    told = []
    for drafts in ({}, {"draft_num_predict": 8}):
        answers = [
            await kernel.raw("endless-tiny", "ten. " * 6, num_ctx=48, **case, **drafts)
            for case in cases
        ]
        told.append([(a.text, a.reason, a.done.output_tokens) for a in answers])
    assert told[0] == told[1]


# --------------------------------------------------------------------------- log-probabilities


async def test_logprobs_are_those_of_an_independent_forward_pass(
    kernel: Any, by_hand: Callable[..., Any], models: Path
) -> None:
    answer = await kernel.raw("endless-tiny", PROMPT, logprobs=5, **HOT)
    tokens = [logprob.bytes for logprob in answer.logprobs]
    ids = [token[0] if len(token) == 1 else CONTROLS[token] for token in tokens]
    assert len(ids) == answer.done.output_tokens == 40
    model = by_hand(models / "tiny-chat-f32.gguf")
    prompt = model.tokens(PROMPT)
    logits = model.feed([*prompt, *ids])[len(prompt) - 1 : -1].astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for place, (logprob, row) in enumerate(zip(answer.logprobs, expected, strict=True)):
        assert logprob.logprob == pytest.approx(row[ids[place]], abs=1e-4)
        top = np.argsort(-row)[:5]
        assert [other.logprob for other in logprob.top] == pytest.approx(row[top], abs=1e-4)
        assert [other.logprob for other in logprob.top] == sorted(
            (other.logprob for other in logprob.top), reverse=True
        )


CONTROLS = {b"<|endoftext_>": 256, b"<|im_start|>": 257, b"<|im_end_>": 258}


async def test_logprobs_do_not_change_the_answer_and_are_of_the_raw_model(kernel: Any) -> None:
    plain = await kernel.raw("endless-tiny", PROMPT, **HOT)
    with_logprobs = await kernel.raw("endless-tiny", PROMPT, logprobs=0, **HOT)
    assert with_logprobs.text == plain.text
    assert plain.logprobs == []
    assert all(logprob.top == () for logprob in with_logprobs.logprobs)
    greedy = await kernel.raw("endless-tiny", PROMPT, logprobs=0, num_predict=1)
    warm = {"temperature": 2.0, "top_k": 1}
    warm = await kernel.raw("endless-tiny", PROMPT, logprobs=0, num_predict=1, **warm)
    assert warm.logprobs == greedy.logprobs


async def test_each_token_has_its_logprobs_once_with_its_text(kernel: Any) -> None:
    answer = await kernel.raw("tiny", "one two", logprobs=1)
    for piece in answer.pieces:
        assert "".join(logprob.token for logprob in piece.logprobs) == piece.content
    stopped = await kernel.raw("tiny", "one two", logprobs=1, stop=["four"])
    assert "".join(logprob.token for logprob in stopped.logprobs) == stopped.text == " three "


async def test_drafted_tokens_have_the_same_logprobs(kernel: Any) -> None:
    prompt = "ten. ten. ten. ten. ten. ten."
    plain = await kernel.raw("endless-tiny", prompt, logprobs=2)
    drafted = await kernel.raw("endless-tiny", prompt, logprobs=2, draft_num_predict=5)
    assert [t.bytes for t in drafted.logprobs] == [t.bytes for t in plain.logprobs]
    assert [t.logprob for t in drafted.logprobs] == pytest.approx(
        [t.logprob for t in plain.logprobs], abs=1e-4
    )
