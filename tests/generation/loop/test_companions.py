"""Samplers that look at further prompts: guided text is what two separate runs come to."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_kernel import frames
from corral_kernel.errors import RemoteJobError

pytestmark = pytest.mark.asyncio(loop_scope="module")
END_ID = 257  # of the backend echo, whose other tokens are bytes
CHAIN = ["cfg", "trouble"]
NEAR = 1.0
"""What llama.cpp may round a guided logit by, for a batch of two is computed as no single is."""


def guided(own: Any, negative: Any, prompts: Sequence[str], scale: float, count: int) -> list[int]:
    """The likeliest tokens by two separate runs."""
    ids = [model.tokens(prompt) for model, prompt in zip((own, negative), prompts, strict=True)]
    chosen: list[int] = []
    while len(chosen) < count:
        fed = [[chosen[-1]]] * 2 if chosen else ids
        rows = [
            model.feed(tokens, rows=1)[0].astype(np.float64)
            for model, tokens in zip((own, negative), fed, strict=True)
        ]
        row = rows[1] + scale * (rows[0] - rows[1])
        chosen.append(int(row.argmax()))
    return chosen


def echoed(prompt: str, negative: str, scale: float) -> str:
    """What the backend echo comes to, by the rows that it gives."""
    rows = []
    for text in (prompt, negative):
        wanted = [*text.encode(), *[END_ID] * 200]
        row = np.full((200, 258), -60.0)
        row[np.arange(200), wanted[:200]] = 60.0
        rows.append(row)
    best = (rows[1] + scale * (rows[0] - rows[1])).argmax(axis=1).tolist()
    return bytes(best[: best.index(END_ID)]).decode()


@pytest.mark.parametrize("scale", [0.0, 0.3, 0.75, 2.0, 7.5])
@pytest.mark.parametrize("negative", ["", "b", "another text, and a longer one"])
async def test_echo_guided_is_what_its_rows_come_to(
    plugin_kernel: Any, scale: float, negative: str
) -> None:
    answer = await plugin_kernel.raw(
        "tiny", "some text", backend="echo", cfg_scale=scale, negative_prompt=negative
    )
    assert answer.text == echoed("some text", negative, scale)
    assert answer.done.prompt_tokens == len("some text") + 1  # of its own alone


@pytest.mark.parametrize("scale", [0.4, 1.5, 3.0])
async def test_a_tiny_model_guided_is_what_two_runs_come_to(
    plugin_kernel: Any, by_hand: Callable[..., Any], models: Path, scale: float
) -> None:
    path = models / "tiny-chat-f32.gguf"
    prompts = ("one two three", "the quick brown fox jumps over")
    ids = guided(by_hand(path), by_hand(path), prompts, scale, 40)
    options = {"cfg_scale": scale, "negative_prompt": prompts[1]}
    answer = await plugin_kernel.raw("endless-tiny", prompts[0], **options)
    assert answer.text == bytes(i for i in ids if i < 256).decode(errors="replace")
    assert answer.done.prompt_tokens == len(prompts[0])


@pytest.mark.real
async def test_smollm2_guided_is_what_two_runs_come_to(
    local: Callable[..., Any], by_hand: Callable[..., Any], smollm2: Path
) -> None:
    prompts = ("The three largest cities of France are", "My favourite animals are")
    options = {"negative_prompt": prompts[1], "num_predict": 24, "want_ids": True}
    done = local(smollm2).answer(prompts[0], cfg_scale=1.5, **options).done
    ids = list(done.token_ids[done.prompt_tokens :])

    rows = []
    for prompt in prompts:
        model = by_hand(smollm2)
        begin = model.tokens(prompt)
        rows.append(model.feed([*begin, *ids])[len(begin) - 1 : -1].astype(np.float64))
    wanted = rows[1] + 1.5 * (rows[0] - rows[1])

    assert len(ids) == 24
    lost = wanted.max(axis=1) - wanted[np.arange(24), ids]
    assert lost.max() < NEAR
    assert (lost == 0).sum() >= 20  # the others are nearly ties
    for alone in rows:
        assert (alone.argmax(axis=1) != ids).sum() >= 3


async def test_a_sampler_may_have_two_companions_with_texts_of_their_own(local: Any) -> None:
    twins = {"samplers": ["twins"], "twins": ["xbc", "xyc"]}
    assert local(None).answer("abc", **twins).text == "xbc"  # two of three say so


async def test_each_sampler_sees_its_own_companions(local: Any) -> None:
    chain = [{"name": "cfg", "cfg_scale": 0.0}, "twins"]
    options = {"samplers": chain, "negative_prompt": "nbc", "twins": ["tbc", "tbc"]}
    assert local(None).answer("abc", **options).text == "tbc"
    assert local(None).answer("abc", **{**options, "twins": ["tbc", "abc"]}).text[0] in "nta"
    backward = {**options, "samplers": chain[::-1]}
    assert local(None).answer("abc", **backward).text == "nbc"


async def test_a_negative_prompt_takes_the_place_of_the_last_message(plugin_kernel: Any) -> None:
    away = await plugin_kernel.chat("tiny", "count", cfg_scale=0.0, negative_prompt="who are you?")
    assert away.text == (await plugin_kernel.chat("tiny", "who are you?")).text
    assert away.text != (await plugin_kernel.chat("tiny", "count")).text


async def test_a_guided_answer_keeps_to_a_format(plugin_kernel: Any) -> None:
    answer = await plugin_kernel.raw(
        "tiny",
        "x",
        format=b'{"enum": ["one", "two"]}',
        cfg_scale=3.0,
        negative_prompt="one",
        temperature=1.5,
        seed=3,
    )
    assert answer.text in ('"one"', '"two"')
    assert answer.done.forced_tokens


async def test_equal_prompts_guided_are_the_same_as_plain(plugin_kernel: Any) -> None:
    prompt = "the quick brown"
    for options in ({}, {"temperature": 1.2, "seed": 5}):
        plain = await plugin_kernel.raw("endless-tiny", prompt, **options)
        same = await plugin_kernel.raw(
            "endless-tiny", prompt, cfg_scale=3.0, negative_prompt=prompt, **options
        )
        assert same.text == plain.text


@pytest.mark.parametrize("model", ["endless-tiny", "endless-gpt2"], ids=["cut", "admitted anew"])
async def test_a_full_window_is_shifted_for_all_prompts(plugin_kernel: Any, model: str) -> None:
    lively = {"presence_penalty": 3.0, "repeat_penalty": 1.2}  # else it says one thing for ever
    options = {"num_ctx": 48, "num_predict": 120, **lively}
    plain = await plugin_kernel.raw(model, "one two three", **options)
    guided = await plugin_kernel.raw(
        model, "one two three", cfg_scale=2.0, negative_prompt="one two three", **options
    )
    assert guided.text == plain.text
    assert guided.done.output_tokens == 120


async def test_without_shift_the_longest_prompt_ends_the_answer(plugin_kernel: Any) -> None:
    answer = await plugin_kernel.raw(
        "endless-tiny",
        "one",
        cfg_scale=2.0,
        negative_prompt="n" * 20,
        num_ctx=32,
        num_predict=100,
        shift=False,
    )
    assert (answer.reason, answer.done.output_tokens) == ("length", 32 - 20 + 1)


async def test_a_request_for_more_slots_than_there_are_is_refused(
    installed: None, start_kernel: Callable[..., Any]
) -> None:
    single = await start_kernel(models=True, CORRAL_NUM_PARALLEL="1")
    with pytest.raises(RemoteJobError, match="needs 2 slots at once; this model has 1") as caught:
        await single.raw("tiny", "x", cfg_scale=2.0)
    assert caught.value.remote_code == "unsupported"
    assert (await single.raw("tiny", "one two")).text.startswith(" three four")


async def test_jobs_with_companions_share_few_slots_without_waiting_for_each_other(
    installed: None, start_kernel: Callable[..., Any]
) -> None:
    kernel = await start_kernel(models=True, CORRAL_NUM_PARALLEL="3")
    guide = {"cfg_scale": 2.0, "negative_prompt": "n", "num_predict": 30}
    prompts = [f"number {n}" for n in range(6)]
    alone = [(await kernel.raw("endless-tiny", prompt, **guide)).text for prompt in prompts]
    plain = (await kernel.raw("endless-tiny", "plain")).text
    answers = await asyncio.gather(
        *(kernel.raw("endless-tiny", prompt, **guide) for prompt in prompts),
        *(kernel.raw("endless-tiny", "plain") for _ in prompts),
    )
    assert [answer.text for answer in answers] == alone + [plain] * len(prompts)


async def test_drafts_are_told_to_do_nothing_for_a_job_with_companions(plugin_kernel: Any) -> None:
    prompt = "ten. ten. ten. ten."
    options = {"draft_num_predict": 5}
    drafted = await plugin_kernel.raw("endless-tiny", prompt, **options)
    assert drafted.accepted.warnings == ()
    assert drafted.done.steps < drafted.done.output_tokens
    answer = await plugin_kernel.raw(
        "endless-tiny", prompt, cfg_scale=2.0, negative_prompt=prompt, **options
    )
    assert answer.text == drafted.text
    assert answer.done.steps == answer.done.output_tokens
    (warning,) = answer.accepted.warnings
    assert warning.startswith('option "draft_num_predict" is ignored: ')


async def test_companions_leave_with_their_job(local: Callable[..., Any]) -> None:
    echo = local(None)
    assert echo.answer("abc", cfg_scale=2.0, samplers=CHAIN).text == "abc"
    assert echo.engine._running == {}
    with pytest.raises(RemoteJobError, match="sampler 'trouble' failed: ValueError: no luck"):
        echo.answer("abc", cfg_scale=2.0, trouble="raises", samplers=CHAIN)
    assert echo.engine._running == {}


async def test_a_paused_job_with_companions_waits_and_goes_on(local: Callable[..., Any]) -> None:
    echo = local(None)
    guided = echo.job("a" * 30, cfg_scale=2.0, negative_prompt="b")
    other = echo.job("c" * 20)
    said: list[int] = []

    def heard(local: Any) -> None:
        pieces = len(local.of(guided, frames.Text))
        if pieces == 3 and not said:
            said.append(pieces)
            local.loop.post(lambda: local.loop.pause(guided.id))
        elif local.of(other, frames.Done) and len(said) == 1:
            said.append(pieces)
            local.loop.post(lambda: local.loop.resume(guided.id))

    echo.heard = heard
    answers = echo.run(guided, other)
    assert [answer.text for answer in answers] == ["a" * 30, "c" * 20]
    assert said[0] == 3
    assert said[1] <= 4


@pytest.mark.parametrize("when", ["in prefill", "in decode", "paused"])
async def test_a_cancelled_job_takes_its_companions_along(
    local: Callable[..., Any], when: str
) -> None:
    echo = local(None, context_tokens=2048)
    guided = echo.job("a" * 30, cfg_scale=2.0, negative_prompt="b" * (1200 if "pre" in when else 3))
    done: list[bool] = []

    def heard(local: Any) -> None:
        if done or not (when == "in prefill" or local.of(guided, frames.Text)):
            return
        done.append(True)
        if when == "paused":
            local.loop.post(lambda: local.loop.pause(guided.id))
        local.loop.post(lambda: local.loop.cancel(guided.id))

    echo.heard = heard
    with pytest.raises(RemoteJobError, match="cancelled"):
        echo.run(guided)
    assert echo.engine._running == {}


async def test_what_an_engine_tells_of_a_companion_ends_its_job(plugin_kernel: Any) -> None:
    plugin_kernel.create(
        "poisoned", base="plain", parameters={"backend": "echo", "echo_error_prompt": "poison"}
    )
    with pytest.raises(RemoteJobError, match="echo was told to fail"):
        await plugin_kernel.raw("poisoned", "abc", cfg_scale=2.0, negative_prompt="poison")
    assert (await plugin_kernel.raw("poisoned", "abc", cfg_scale=2.0)).text == "abc"
