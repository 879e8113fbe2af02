"""The engine by itself, driven as a worker's loop would."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from corral_kernel.contracts import Job, MediaPart, Rows, TextPart
from corral_kernel.errors import OutOfMemoryError, UnsupportedError
from corral_kernel.testing import TokenEngineSuite

from corral_repeat.engine import RepeatEngine
from corral_repeat.options import RepeatOptions
from corral_repeat.tokenizer import BOS_ID, END_ID, ByteTokenizer

Answers = dict[int, list[int]]


def engine(slots: int = 4, **options: Any) -> RepeatEngine:
    return RepeatEngine(RepeatOptions(**options), slots)


class TestRepeatEngine(TokenEngineSuite):
    """What Corral asks of every engine."""

    def engine(self, slots: int) -> RepeatEngine:
        return engine(slots)


def job(engine: RepeatEngine, job_id: int, text: str, max_tokens: int = 100) -> Job:
    return Job(id=job_id, prompt=engine.prepare([TextPart(text)]), max_tokens=max_tokens)


def greedy(engine: RepeatEngine, rows: Iterable[Rows], answers: Answers) -> None:
    for row in rows:
        assert row.error is None
        if row.logits is None:
            continue
        assert row.logits.shape == (1, engine.info.vocab_size)
        token = int(row.logits[0].argmax())
        if token in engine.tokenizer.end_ids:
            engine.release(row.job_id)
        else:
            answers.setdefault(row.job_id, []).append(token)
            engine.extend(row.job_id, [token])


def run(engine: RepeatEngine) -> dict[int, str]:
    answers: Answers = {}
    while rows := engine.forward():
        assert sum(row.fed for row in rows) <= engine.info.batch_tokens
        greedy(engine, rows, answers)
    return {i: engine.tokenizer.decode(ids).decode() for i, ids in answers.items()}


@pytest.mark.parametrize("num_batch", [1, 3, 512])
def test_jobs_of_all_lengths_are_repeated_whatever_the_batch(num_batch: int) -> None:
    small = engine(slots=3, num_batch=num_batch)
    texts = {1: "Hello, Ünïcode", 2: "x", 3: "a longer prompt than the others"}
    for job_id, text in texts.items():
        assert small.admit(job(small, job_id, text)) is not None
    assert run(small) == texts


def test_an_option_of_its_own_says_how_often() -> None:
    small = engine(repeat_times=3)
    small.admit(job(small, 1, "ab"))
    assert run(small) == {1: "ababab"}


def test_a_running_job_is_fed_before_a_long_prompt() -> None:
    small = engine(slots=2, num_batch=4)
    small.admit(job(small, 1, "ab"))
    greedy(small, small.forward(), {})
    small.admit(job(small, 2, "a long prompt"))
    rows = small.forward()
    assert [(row.job_id, row.fed, row.logits is None) for row in rows] == [
        (1, 1, False),
        (2, 3, True),
    ]


def test_forced_tokens_count_as_its_answer() -> None:
    small = engine()
    small.admit(job(small, 1, "abcd"))
    small.forward()
    small.extend(1, list(b"abc"))
    (row,) = small.forward()
    assert row.fed == 3
    assert row.logits is not None
    assert row.logits[0].argmax() == ord("d")


def test_a_job_longer_than_the_context_never_fits() -> None:
    small = engine(num_ctx=8)
    with pytest.raises(OutOfMemoryError, match="9 tokens does not fit a context of 8"):
        small.admit(job(small, 1, "abcde", max_tokens=3))


def test_rows_of_jobs_are_separate_and_writable() -> None:
    small = engine()
    small.admit(job(small, 1, "a"))
    small.admit(job(small, 2, "b"))
    first, second = small.forward()
    assert first.logits is not None
    assert second.logits is not None
    first.logits[:] = 0
    assert second.logits[0].argmax() == ord("b")
    assert second.logits.dtype == np.float32


@pytest.mark.parametrize("text", ["<s>hi", "hi"], ids=["with its own", "without"])
def test_a_prompt_has_one_bos(text: str) -> None:
    assert engine().prepare([TextPart(text)]).history() == [BOS_ID, *b"hi"]


def test_control_tokens_are_read_only_where_they_may_be() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode("a</s>", special=True) == [ord("a"), END_ID]
    assert tokenizer.encode("a</s>", special=False) == list(b"a</s>")
    assert tokenizer.decode([BOS_ID, ord("a"), END_ID]) == b"<s>a</s>"


def test_media_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="image"):
        engine().prepare([MediaPart("image", b"")])
