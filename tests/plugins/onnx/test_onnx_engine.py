"""Jobs side by side on the tiny chat model, whose tokens are bytes; see also tests/backends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_kernel.contracts import Job, MediaPart, Prompt, TextPart, TokenSegment
from corral_kernel.errors import (
    EngineError,
    InvalidRequestError,
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
SLICE = 64


@pytest.fixture
def loop(way: str, greedy: Loop, tiny_chat_onnx: Path) -> Any:
    assert way
    return greedy(tiny_chat_onnx, slots=4, num_ctx=256)


@pytest.mark.parametrize(("question", "answer"), ANSWERS.items())
def test_a_question_gets_its_answer(loop: Any, question: str, answer: str) -> None:
    assert loop.answer(CHAT.format(question)) == answer + END


@pytest.mark.parametrize(("question", "answer"), ANSWERS.items())
def test_four_bits_say_the_same(
    greedy: Loop, tiny_chat_onnx: Path, question: str, answer: str
) -> None:
    loop = greedy(tiny_chat_onnx.with_name("tiny-chat-onnx-int4"))
    assert loop.answer(CHAT.format(question)) == answer + END


def test_jobs_beside_each_other_answer_as_each_does_alone(loop: Any) -> None:
    jobs = [loop.job(CHAT.format(question)) for question in list(ANSWERS) * 2]
    texts = [loop.engine.tokenizer.decode(ids).decode() for ids in loop.run(*jobs)]
    assert texts == [answer + END for answer in list(ANSWERS.values()) * 2]


def test_a_long_prompt_stalls_no_running_answer(loop: Any) -> None:
    writer, reader = loop.job("count", tokens=20), loop.job("x" * 200, tokens=1)
    loop.admit(writer)
    loop.step()
    assert len(loop.texts[writer.id]) == 1
    loop.admit(reader)
    fed = [loop.step() for _ in range(4)]
    assert [step[writer.id] for step in fed] == [1, 1, 1, 1]
    assert [step[reader.id] for step in fed] == [SLICE, SLICE, SLICE, 200 - 3 * SLICE]
    assert len(loop.texts[writer.id]) == 5
    loop.release(writer.id)


def test_a_short_prompt_does_not_wait_for_a_long_one(loop: Any) -> None:
    long, short = loop.job("x" * 250, tokens=1), loop.job("y" * 10, tokens=3)
    loop.admit(long)
    loop.admit(short)
    loop.step()
    loop.step()
    assert len(loop.texts[short.id]) == 1
    loop.run()
    assert loop.steps == 5  # a slice of the long one in each but the second


def test_prompts_take_turns_by_the_slice(loop: Any) -> None:
    jobs = [loop.job(letter * 128, tokens=1) for letter in "abc"]
    for job in jobs:
        loop.admit(job)
    order = [next(iter(loop.step())) for _ in range(6)]
    assert order == [job.id for job in jobs] * 2


@pytest.mark.parametrize("batch", [1, 3, 20])
def test_a_step_feeds_no_more_than_the_batch(
    greedy: Loop, tiny_chat_onnx: Path, batch: int
) -> None:
    loop = greedy(tiny_chat_onnx, slots=4, num_batch=batch)
    jobs = [loop.job(CHAT.format(question)) for question in ANSWERS]
    for job in jobs:
        assert loop.admit(job)
    fed = []
    while any(job.id in loop._limits for job in jobs):
        fed.append(sum(loop.step().values()))
    assert max(fed) == batch
    texts = [loop.engine.tokenizer.decode(loop.texts[job.id]).decode() for job in jobs]
    assert texts == [answer + END for answer in ANSWERS.values()]


def test_in_a_small_batch_prompts_and_answers_take_turns(
    greedy: Loop, tiny_chat_onnx: Path
) -> None:
    loop = greedy(tiny_chat_onnx, slots=2, num_batch=1)
    writer = loop.job("count", tokens=100)
    loop.admit(writer)
    while not loop.texts[writer.id]:
        loop.step()
    reader = loop.job("abcdef", tokens=1)
    loop.admit(reader)
    while not loop.texts[reader.id]:
        loop.step()
    assert 0 < len(loop.texts[writer.id]) <= 8
    loop.run()


def test_forced_tokens_are_fed_together(loop: Any) -> None:
    engine = loop.engine
    prompt = engine.prepare([TextPart(CHAT.format("count to five"))])
    truth = loop.run(loop.job(CHAT.format("count to five")))[0]
    engine.admit(Job(id=100, prompt=prompt, max_tokens=30, cache_scope="other"))
    while engine.forward()[0].logits is None:
        pass
    engine.extend(100, truth[:6])
    fed, rows = 0, None
    while rows is None:
        (row,) = engine.forward()
        fed, rows = fed + row.fed, row.logits
    assert fed == 6
    assert int(rows[0].argmax()) == truth[6]
    engine.release(100)


def test_a_row_is_the_engine_users_own(loop: Any) -> None:
    prompt = loop.engine.prepare([TextPart("count")])
    rows = []
    for number in (1, 2):
        loop.engine.admit(Job(id=number, prompt=prompt, max_tokens=1, cache_scope=str(number)))
    while len(rows) < 2:
        rows += [row.logits for row in loop.engine.forward() if row.logits is not None]
        rows[0][:] = 7
    assert rows[1].dtype == np.float32
    assert rows[1].flags.writeable
    assert not (rows[1] == 7).any()


def test_drafts_and_cuts_are_no_capabilities(loop: Any) -> None:
    assert set(loop.engine.info.capabilities) == {"completion"}
    job = loop.job("abc" * 20, tokens=10)
    loop.admit(job)
    loop.step()
    assert loop.engine.cut(job.id, 4, 20) is False
    loop.run()
    assert [loop.texts[job.id]] == loop.run(loop.job("abc" * 20, 10, cache_scope="other"))


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("ids", [[-1], [259], [5, 1 << 31], [5, -259]])
def test_ids_out_of_range_never_reach_the_library(loop: Any, ids: list[int]) -> None:
    with pytest.raises(InvalidRequestError, match="0 to 258"):
        loop.engine.admit(Job(id=1, prompt=Prompt((TokenSegment(ids),)), max_tokens=5))
    loop.admit(job := loop.job("hello", tokens=5))
    for rows in loop.engine.forward():
        assert rows.logits is not None
    with pytest.raises(InvalidRequestError, match="0 to 258"):
        loop.engine.extend(job.id, ids)
    loop.engine.extend(job.id, [5])
    loop.run()


@pytest.mark.parametrize(
    ("prompt", "tokens", "error"),
    [
        ([], 5, InvalidRequestError),
        ([5] * 257, 0, PromptTooLongError),
        ([5] * 200, 57, OutOfMemoryError),
    ],
    ids=["empty", "a prompt over the context", "an answer over the context"],
)
def test_what_can_never_run_is_refused(
    loop: Any, prompt: list[int], tokens: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        loop.engine.admit(loop.job(prompt, tokens))
    assert loop.answer(CHAT.format("capital of Italy?")) == "Rome." + END


def test_media_are_refused(loop: Any) -> None:
    with pytest.raises(UnsupportedError, match="image"):
        loop.engine.prepare([TextPart("look"), MediaPart("image", b"png")])


def test_no_more_is_taken_than_was_asked_for(loop: Any) -> None:
    job = loop.job("abc", tokens=2)
    loop.admit(job)
    loop.engine.forward()
    with pytest.raises(EngineError, match="admitted"):
        loop.engine.extend(job.id, [1, 2, 3])
    loop.engine.extend(job.id, [1, 2])
    assert [rows.fed for rows in loop.engine.forward()] == [2]
    loop.release(job.id)


@pytest.mark.usefixtures("generators")
def test_what_the_library_refuses_ends_one_job_alone(greedy: Loop, tiny_chat_onnx: Path) -> None:
    loop = greedy(tiny_chat_onnx, slots=4, num_ctx=256)
    other = loop.job(CHAT.format("capital of Italy?"))
    broken = loop.job("abc", tokens=5)
    loop.admit(other)
    loop.admit(broken)
    run = loop.engine._runs[broken.id]
    run.lane.strand.feed([7] * run.lane.strand.capacity)  # so that no token more fits
    run.lane.strand.length = 0
    errors = {}
    while broken.id not in errors:
        errors |= {rows.job_id: rows.error for rows in loop.engine.forward() if rows.error}
    assert "exceeds max length" in errors[broken.id]
    loop.release(broken.id)
    loop.release(other.id)
    assert loop.answer(CHAT.format("capital of Italy?")) == "Rome." + END
