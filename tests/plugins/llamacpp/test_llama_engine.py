"""Continuous batching with the tiny chat model, whose tokens are bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_kernel.contracts import Job, MediaPart, Prompt, TextPart, TokenSegment
from corral_kernel.errors import (
    InvalidRequestError,
    LoadError,
    OutOfMemoryError,
    PromptTooLongError,
    UnsupportedError,
)

Loop = Callable[..., Any]
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
ANSWERS = {
    "capital of Italy?": "Rome.",
    "who are you?": "I am a tiny model trained to test a server.",
    "give me json": '{"name": "tiny", "size": 1}',
    "count to five": "one two three four five.",
}
END = "<|im_end|>"


@pytest.fixture
def loop(greedy: Loop, tiny_chat: Path) -> Any:
    return greedy(tiny_chat, slots=4, num_ctx=256)


@pytest.mark.parametrize(("question", "answer"), ANSWERS.items())
def test_a_question_gets_its_answer(loop: Any, question: str, answer: str) -> None:
    assert loop.answer(CHAT.format(question)) == answer + END


def test_jobs_in_one_batch_answer_as_each_does_alone(loop: Any) -> None:
    jobs = [loop.job(CHAT.format(question)) for question in list(ANSWERS) * 2]
    texts = [loop.engine.tokenizer.decode(ids).decode() for ids in loop.run(*jobs)]
    assert texts == [answer + END for answer in list(ANSWERS.values()) * 2]


def test_no_more_jobs_are_admitted_than_there_are_slots(loop: Any) -> None:
    jobs = [loop.job(CHAT.format("who are you?")) for _ in range(5)]
    assert [loop.admit(job) for job in jobs] == [True] * 4 + [False]
    loop.release(jobs[0].id)
    assert loop.admit(jobs[4])


def test_a_second_prompt_feeds_only_what_the_first_did_not(loop: Any) -> None:
    first = loop.job(CHAT.format("count to five"))
    loop.run(first)
    prompt_tokens = first.prompt.length
    assert loop.fed[first.id] == prompt_tokens + len(loop.texts[first.id]) - 1

    again = loop.job(CHAT.format("count to five"))
    loop.run(again)
    assert loop.cached[again.id] == prompt_tokens - 1  # one token is always fed
    assert loop.texts[again.id] == loop.texts[first.id]

    turn = loop.job(CHAT.format("count to five") + ANSWERS["count to five"] + END + "\n")
    loop.run(turn)
    assert loop.cached[turn.id] == prompt_tokens + len(ANSWERS["count to five"])


def test_scopes_share_no_prefixes(loop: Any) -> None:
    loop.answer(CHAT.format("who are you?"), cache_scope="mine")
    other = loop.job(CHAT.format("who are you?"), cache_scope="yours")
    loop.run(other)
    assert loop.cached[other.id] == 0


def test_prompts_admitted_together_are_fed_their_common_part_once(loop: Any) -> None:
    system = "<|im_start|>system\n" + "be brief. " * 9 + "<|im_end|>\n"
    jobs = [loop.job(system + CHAT.format(question), tokens=8) for question in ANSWERS]
    common = len(loop.engine.tokenizer.encode(system + "<|im_start|>user\n", special=True))
    together = loop.run(*jobs)
    for job in jobs[1:]:
        assert loop.cached[job.id] >= common
        assert loop.fed[job.id] == job.prompt.length - loop.cached[job.id] + 7

    alone = [
        loop.run(loop.job(job.prompt.history(), tokens=8, cache_scope="alone")) for job in jobs
    ]
    assert together == [ids for (ids,) in alone]


@pytest.mark.parametrize("victim", [0, 1], ids=["the first", "the second"])
def test_a_shared_prefix_outlives_the_job_that_fed_it(
    greedy: Loop, tiny_chat: Path, victim: int
) -> None:
    loop = greedy(tiny_chat, slots=4, num_ctx=256, num_batch=32)
    prompt = "x" * 100 + CHAT.format("capital of Italy?")
    jobs = [loop.job(prompt) for _ in range(3)]
    assert all(loop.admit(job) for job in jobs)
    loop.step()
    assert [loop.fed[job.id] for job in jobs] == [32, 0, 0]
    loop.release(jobs[victim].id)
    loop.run()
    expected = loop.run(loop.job(prompt, cache_scope="other"))[0]
    rest = [job for place, job in enumerate(jobs) if place != victim]
    assert [loop.texts[job.id] for job in rest] == [expected, expected]
    assert sum(loop.fed[job.id] for job in jobs) < 2 * jobs[0].prompt.length


def test_a_job_released_in_mid_prefill_leaves_what_it_was_fed(
    greedy: Loop, tiny_chat: Path
) -> None:
    loop = greedy(tiny_chat, slots=2, num_ctx=256, num_batch=32)
    cancelled = loop.job("y" * 200)
    loop.admit(cancelled)
    loop.step()
    loop.release(cancelled.id)
    assert loop.fed[cancelled.id] == 32  # no more than one micro-batch
    again = loop.job("y" * 200, tokens=3)
    loop.run(again)
    assert loop.cached[again.id] == 32


def test_the_least_recently_used_prefix_goes_when_cells_run_out(
    greedy: Loop, tiny_chat: Path
) -> None:
    loop = greedy(tiny_chat, slots=4, num_ctx=256, cache_ram=0)
    prompts = [f"{i} " * 100 for i in range(6)]  # 1,200 of 1,024 cells
    for prompt in prompts:
        loop.answer(prompt, tokens=4)
    cached = []
    for prompt in (prompts[5], prompts[0]):
        job = loop.job(prompt, tokens=1)
        loop.run(job)
        cached.append(loop.cached[job.id])
    assert cached == [199, 0]


def test_full_windows_of_all_slots_fit_beside_cached_prefixes(loop: Any) -> None:
    loop.answer("z" * 250, tokens=6)
    jobs = [loop.job(chr(65 + i) * 200, tokens=56) for i in range(4)]
    assert all(loop.admit(job) for job in jobs)
    while any(len(loop.texts[job.id]) < 10 for job in jobs):
        loop.step()  # the worker's loop would extend them to their limit just so


@pytest.mark.parametrize("quality", ["right", "wrong", "half right"])
def test_drafts_change_no_text(loop: Any, quality: str) -> None:
    question = CHAT.format("who are you?")
    truth = loop.run(loop.job(question))[0]
    plain_steps, loop.steps = loop.steps, 0

    def draft(text: list[int]) -> list[int]:
        guess = truth[len(text) : len(text) + 4]
        if quality == "right":
            return guess
        return [7] * 4 if quality == "wrong" else [*guess[:2], 7, 7]

    loop.drafter = draft
    assert loop.run(loop.job(question, cache_scope="anew"))[0] == truth
    assert (loop.steps < plain_steps / 2) == (quality != "wrong")
    loop.drafter = None
    assert loop.run(loop.job(question, cache_scope="anew"))[0] == truth


def test_rows_of_drafts_are_what_single_steps_give(loop: Any) -> None:
    engine = loop.engine
    prompt = engine.prepare([TextPart(CHAT.format("count to five"))])
    truth = loop.run(loop.job(CHAT.format("count to five")))[0]
    engine.admit(Job(id=100, prompt=prompt, max_tokens=20, cache_scope="a"))
    engine.forward()
    engine.extend(100, truth[:1], truth[1:6])
    (rows,) = engine.forward()
    assert rows.fed == 6
    assert rows.logits is not None
    assert rows.logits.shape == (6, engine.info.vocab_size)
    assert rows.logits.argmax(axis=1).tolist() == truth[1:7]
    rows.logits[:] = 0.0  # writable
    engine.release(100)


def test_a_cut_job_goes_on_without_what_was_cut(loop: Any) -> None:
    job = loop.job("a" * 100 + "b" * 100, tokens=50)
    loop.admit(job)
    rows = loop.engine.forward()
    (token,) = rows[0].logits.argmax(axis=1).tolist()
    assert loop.engine.cut(job.id, 4, 104)
    loop.engine.extend(job.id, [token])
    (after,) = loop.engine.forward()
    assert after.fed == 1
    loop.release(job.id)
    # What moved is not what a fresh computation gives, so only what stayed may be reused.
    again = loop.job("aaaa" + "b" * 96, tokens=1)
    loop.run(again)
    assert loop.cached[again.id] == 4


def test_what_another_job_holds_is_not_cut(loop: Any) -> None:
    prompt = "a" * 100 + "b" * 100
    jobs = [loop.job(prompt, tokens=50) for _ in range(2)]
    assert all(loop.admit(job) for job in jobs)
    while any(loop.fed[job.id] + loop.cached[job.id] < 200 for job in jobs):
        for rows in loop.engine.forward():
            loop.fed[rows.job_id] += rows.fed
    assert not loop.engine.cut(jobs[0].id, 4, 104)
    for job in jobs:
        loop.engine.extend(job.id, [65])
    assert sorted(rows.job_id for rows in loop.engine.forward()) == [job.id for job in jobs]


def test_a_job_that_is_not_extended_is_not_fed(loop: Any) -> None:
    paused, other = loop.job(CHAT.format("who are you?")), loop.job(CHAT.format("give me json"))
    loop.engine.admit(paused)
    (rows,) = loop.engine.forward()
    assert rows.job_id == paused.id
    assert (
        loop.engine.tokenizer.decode(loop.run(other)[0]).decode()
        == '{"name": "tiny", "size": 1}' + END
    )
    assert loop.engine.forward() == ()


def test_a_prompt_beside_running_jobs_is_fed_in_parts(greedy: Loop, tiny_chat: Path) -> None:
    loop = greedy(tiny_chat, slots=2, num_ctx=256, num_batch=64)
    writing = loop.job(CHAT.format("who are you?"))
    loop.admit(writing)
    loop.step()
    assert loop.admit(loop.job("q" * 200, tokens=1))
    while loop.fed[writing.id] < writing.prompt.length + 4:
        before = dict(loop.fed)
        loop.step()
        assert loop.fed[writing.id] == before[writing.id] + 1  # never held up
    loop.run()


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ([], InvalidRequestError),
        ([5, -1], InvalidRequestError),
        ([5, 259], InvalidRequestError),
        ([1 << 40], InvalidRequestError),
        ([5] * 257, PromptTooLongError),
    ],
    ids=["none", "negative", "too large", "huge", "too many"],
)
def test_a_bad_prompt_is_refused(loop: Any, ids: list[int], error: type[Exception]) -> None:
    job = Job(id=1, prompt=Prompt((TokenSegment(ids),)), max_tokens=5)
    with pytest.raises(error):
        loop.engine.admit(job)
    assert loop.answer(CHAT.format("capital of Italy?")) == "Rome." + END


def test_a_job_that_can_never_fit_is_refused(loop: Any) -> None:
    with pytest.raises(OutOfMemoryError):
        loop.engine.admit(loop.job("a", tokens=5000))


def test_images_are_refused(loop: Any) -> None:
    with pytest.raises(UnsupportedError, match="image"):
        loop.engine.prepare([TextPart("look: "), MediaPart("image", b"\x89PNG")])


def test_the_context_is_clamped_to_what_the_model_was_trained_with(
    greedy: Loop, tiny_chat: Path
) -> None:
    info = greedy(tiny_chat, num_ctx=100_000).engine.info
    assert info.context_tokens == 256
    assert info.memory_bytes > 300_000
    assert info.vram_bytes <= info.memory_bytes


def test_a_cache_type_that_does_not_fit_the_model_is_told_in_the_librarys_words(
    greedy: Loop, tiny_chat: Path
) -> None:
    with pytest.raises(LoadError, match="q8_0 with block size 32 does not divide"):
        greedy(tiny_chat, num_ctx=256, kv_cache_type="q8_0", flash_attention=True)


def test_logits_are_the_librarys_own_memory(loop: Any) -> None:
    addresses = set()
    loop.admit(loop.job(CHAT.format("who are you?")))
    for _ in range(5):
        (rows,) = loop.engine.forward()
        addresses.add(rows.logits.__array_interface__["data"][0])
        assert rows.logits.dtype == np.float32
        loop.engine.extend(rows.job_id, [int(rows.logits[0].argmax())])
    assert len(addresses) == 1
