"""The engine by itself, driven as a worker's loop would."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from corral_echo.engine import EchoEngine, load
from corral_echo.options import EchoOptions
from corral_echo.tokenizer import BOS_ID, END_ID, ByteTokenizer

from corral_kernel.contracts import (
    Claim,
    Job,
    LoadRequest,
    MediaPart,
    Rows,
    TextPart,
)
from corral_kernel.errors import LoadError, OutOfMemoryError, UnsupportedError


def engine(slots: int = 4, **options: object) -> EchoEngine:
    return EchoEngine(EchoOptions(**options), slots)  # type: ignore[arg-type]  # a table's values


def job(engine: EchoEngine, job_id: int, text: str, max_tokens: int = 100) -> Job:
    return Job(id=job_id, prompt=engine.prepare([TextPart(text)]), max_tokens=max_tokens)


def greedy(engine: EchoEngine, rows: Iterable[Rows], answers: dict[int, list[int]]) -> None:
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


def run(engine: EchoEngine) -> dict[int, str]:
    answers: dict[int, list[int]] = {}
    while rows := engine.forward():
        assert sum(row.fed for row in rows) <= engine.info.batch_tokens
        greedy(engine, rows, answers)
    return {i: engine.tokenizer.decode(ids).decode() for i, ids in answers.items()}


@pytest.mark.parametrize("num_batch", [1, 3, 512])
def test_jobs_of_all_lengths_are_repeated_whatever_the_batch(num_batch: int) -> None:
    echo = engine(slots=3, num_batch=num_batch)
    texts = {1: "Hello, Ünïcode", 2: "x", 3: "a longer prompt than the others"}
    for job_id, text in texts.items():
        assert echo.admit(job(echo, job_id, text)) is not None
    assert run(echo) == texts


def test_a_running_job_is_fed_before_a_long_prompt() -> None:
    echo = engine(slots=2, num_batch=4)
    echo.admit(job(echo, 1, "ab"))
    greedy(echo, echo.forward(), {})
    echo.admit(job(echo, 2, "a long prompt"))
    rows = echo.forward()
    assert [(row.job_id, row.fed, row.logits is None) for row in rows] == [
        (1, 1, False),
        (2, 3, True),
    ]


def test_a_job_that_is_not_extended_is_not_fed() -> None:
    echo = engine()
    echo.admit(job(echo, 1, "ab"))
    assert len(echo.forward()) == 1
    assert list(echo.forward()) == []


def test_forced_tokens_count_as_its_answer() -> None:
    echo = engine()
    echo.admit(job(echo, 1, "abcd"))
    echo.forward()
    echo.extend(1, list(b"abc"))
    (row,) = echo.forward()
    assert row.fed == 3
    assert row.logits is not None
    assert row.logits[0].argmax() == ord("d")


def test_a_job_waits_for_a_slot_and_gets_it_when_one_is_released() -> None:
    echo = engine(slots=1)
    assert echo.admit(job(echo, 1, "a")) is not None
    assert echo.admit(job(echo, 2, "b")) is None
    echo.release(1)
    assert echo.admit(job(echo, 2, "b")) is not None
    assert run(echo) == {2: "b"}


def test_a_job_longer_than_the_context_never_fits() -> None:
    echo = engine(num_ctx=8)
    with pytest.raises(OutOfMemoryError, match="9 tokens does not fit a context of 8"):
        echo.admit(job(echo, 1, "abcde", max_tokens=3))


def test_rows_of_jobs_are_separate_and_writable() -> None:
    echo = engine()
    echo.admit(job(echo, 1, "a"))
    echo.admit(job(echo, 2, "b"))
    first, second = echo.forward()
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


def request(report: Callable[[float], bool], **options: object) -> LoadRequest:
    return LoadRequest(
        claim=Claim(backend="echo", confidence=1.0, why="a test", capabilities=("completion",)),
        options=EchoOptions(**options),  # type: ignore[arg-type]  # a table's values
        files=(),
        slots=2,
        report=report,
    )


def noted(shares: list[float], share: float) -> bool:
    shares.append(share)
    return True


def test_loading_reports_progress() -> None:
    shares: list[float] = []
    loaded = load(request(lambda share: noted(shares, share), echo_load_ms=30))
    assert loaded.info.slots == 2
    assert shares == sorted(shares)
    assert len(shares) >= 2


def test_silent_loading_reports_nothing() -> None:
    shares: list[float] = []
    load(request(lambda share: noted(shares, share), echo_load_ms=5, echo_load_silent=True))
    assert shares == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"echo_load_ms": 60_000}, "given up"), ({"echo_load_fails": True}, "told to fail")],
    ids=["given up", "told to"],
)
def test_loading_fails(options: dict[str, object], message: str) -> None:
    with pytest.raises(LoadError, match=message):
        load(request(lambda _: False, **options))


def test_only_the_job_that_is_told_to_fail_fails() -> None:
    echo = engine(echo_error_prompt="poison")
    echo.admit(job(echo, 1, "fine"))
    echo.admit(job(echo, 2, "some poison"))
    fine, failed = echo.forward()
    assert fine.error is None
    assert failed.error == "echo was told to fail at 'poison'"


def test_the_step_that_is_told_to_fail_raises() -> None:
    echo = engine(echo_fail_at=2)
    echo.admit(job(echo, 1, "ab"))
    greedy(echo, echo.forward(), {})
    with pytest.raises(RuntimeError, match="echo_fail_at"):
        echo.forward()
