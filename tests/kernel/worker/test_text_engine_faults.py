"""What engines with a loop of their own do wrong costs their own request, and nothing else."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel import API_VERSION, frames
from corral_kernel.contracts import Claim, Message
from corral_kernel.errors import (
    CancelledJobError,
    CorralError,
    RemoteJobError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from corral_kernel.options import RequestOptions
from corral_kernel.supervisor import (
    ChildProcess,
    JobLimits,
    JobStream,
    WorkerProcess,
    WorkerSetup,
)

Start = Callable[..., Any]
ONLY = ("chatter", "chat")
LIMIT_S = 100.0


@pytest.fixture
async def start(
    text_plugin: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: None
) -> AsyncIterator[Start]:
    """Start workers with the engine `chatter`: `await start(slots=2, step_timeout_s=0.5)`."""
    monkeypatch.setenv("PYTHONPATH", str(text_plugin))
    started: list[WorkerProcess] = []

    async def start(slots: int = 8, **setup: Any) -> WorkerProcess:
        process = ChildProcess(WorkerSetup(only=ONLY, **setup))
        await process.start()
        worker = WorkerProcess(process)
        started.append(worker)
        claim = Claim(
            backend="chatter",
            confidence=1.0,
            why="a test",
            capabilities=("completion",),
            takes="chat",
            private={"base_url": "https://example.org/v1"},
        )
        await worker.load(
            "chatter",
            frames.Load(
                api_version=API_VERSION,
                plugin="chatter",
                claim=claim,
                options={"num_ctx": 4096, "num_batch": 512},
                files=(),
                slots=slots,
            ),
        )
        return worker

    async with asyncio.timeout(LIMIT_S):
        yield start
        for worker in started:
            await worker.stop()


def submit(worker: WorkerProcess, text: str) -> JobStream:
    prompt = frames.PromptSpec(messages=(Message(role="user", content=text),))
    return worker.submit(frames.Generate(job_id=0, prompt=prompt, options=RequestOptions()))


async def error_of(stream: JobStream) -> CorralError:
    with pytest.raises(CorralError) as caught:
        [event async for event in stream]
    return caught.value


async def counts(worker: WorkerProcess, tools: Any) -> dict[str, Any]:
    """What became of all requests: those that ended are closed once this one is asked for."""
    found: dict[str, Any] = json.loads(await tools.text_of(submit(worker, "!counts")))
    return found


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("a !raise", "engine", "RuntimeError: the ? engine was told to fail"),
        ("a !refuse", "remote_refused", "that server does not like it"),
        ("a !exit", "engine", "SystemExit: 3"),
        ("a !give-up", "engine", "the engine cancelled its own request"),
        ("a !unending", "engine", "the engine ended an answer without telling why it ends"),
        ("a !odd", "engine", "the engine gave int where a piece or an end was due"),
        ("a !no-text", "engine", "AttributeError: 'int' object has no attribute 'isascii'"),
    ],
)
async def test_what_an_engine_raises_fails_its_own_request(
    start: Start, tools: Any, text: str, code: str, words: str
) -> None:
    worker = await start()
    beside = submit(worker, "these go on " * 50)
    error = await error_of(submit(worker, text))
    assert isinstance(error, RemoteJobError)
    assert (error.remote_code, str(error)) == (code, words)
    assert await tools.text_of(beside) == "these go on " * 50 + " "
    assert await tools.text_of(submit(worker, "and more")) == "and more "


async def test_a_cancelled_request_is_closed_at_once_and_the_others_go_on(
    start: Start, tools: Any
) -> None:
    worker = await start(slots=3)
    waits, beside = submit(worker, "soon !hang"), submit(worker, "here !hang")
    await tools.first_text(waits)
    await tools.first_text(beside)
    waits.cancel()
    assert isinstance(await error_of(waits), CancelledJobError)
    found = await counts(worker, tools)
    assert (found["cancelled"], found["closed"], found["opened"]) == (1, 1, 3)
    beside.cancel()
    assert isinstance(await error_of(beside), CancelledJobError)


async def test_a_cancelled_request_frees_its_place_though_its_engine_does_not_let_go(
    start: Start, tools: Any
) -> None:
    worker = await start(slots=1)
    stubborn = submit(worker, "I stay !stubborn")
    await tools.first_text(stubborn)
    behind = submit(worker, "next please")
    stubborn.cancel()
    assert isinstance(await error_of(stubborn), CancelledJobError)
    assert await tools.text_of(behind) == "next please "


async def test_requests_that_wait_for_a_place_can_be_cancelled(start: Start, tools: Any) -> None:
    worker = await start(slots=1)
    first = submit(worker, "first !hang")
    await tools.first_text(first)
    waiting = [submit(worker, f"{number}") for number in range(3)]
    waiting[1].cancel()
    assert isinstance(await error_of(waiting[1]), CancelledJobError)
    first.cancel()
    assert [await tools.text_of(waiting[n]) for n in (0, 2)] == ["0 ", "2 "]
    assert (await counts(worker, tools))["opened"] == 4


async def test_an_engine_that_nobody_reads_is_not_asked_for_more(start: Start, tools: Any) -> None:
    limits = JobLimits(merge_after=4, pause_at=8, stall_s=60.0)
    worker = await start(limits=limits)
    words = "slow " + "w " * 3000
    stream = submit(worker, words.strip())
    await tools.first_text(stream)
    before = -1
    while (given := (await counts(worker, tools))["given"].get("slow", 0)) != before:
        before = given
    assert 8 <= given < 2000, "it stands still, and did not read to the end"
    assert (await tools.text_of(stream)).count("w") == 3000
    assert (await counts(worker, tools))["given"]["slow"] == 3001


async def test_one_silent_request_is_waited_for_and_is_no_others_fault(
    start: Start, tools: Any
) -> None:
    worker = await start(step_timeout_s=1.0)
    silent = submit(worker, "well !hang")
    await tools.first_text(silent)
    begun = time.monotonic()
    while time.monotonic() - begun < 2.0:
        assert await tools.text_of(submit(worker, "quick")) == "quick "
        done, _ = await asyncio.wait([worker.lost], timeout=0.3)
        assert not done
    silent.cancel()
    assert isinstance(await error_of(silent), CancelledJobError)


async def test_a_silent_request_alone_is_kept_alive_by_heartbeats(start: Start, tools: Any) -> None:
    worker = await start(step_timeout_s=1.0)
    silent = submit(worker, "well !hang")
    done, _ = await asyncio.wait([worker.lost], timeout=2.0)
    assert not done
    silent.cancel()
    assert isinstance(await error_of(silent), CancelledJobError)
    done, _ = await asyncio.wait([worker.lost], timeout=1.5)
    assert not done, "nothing is owed where nothing is open"
    assert await tools.text_of(submit(worker, "again")) == "again "


async def test_an_engine_that_blocks_its_loop_is_hung_and_ended(start: Start, tools: Any) -> None:
    worker = await start(step_timeout_s=1.0)
    beside = submit(worker, "waits !hang")
    await tools.first_text(beside)
    blocking = submit(worker, "now !block")
    for stream in (beside, blocking):
        assert isinstance(await error_of(stream), WorkerHungError)
    await worker.gone


async def test_an_engine_that_dies_in_mid_answer_fails_what_was_open(
    start: Start, tools: Any
) -> None:
    worker = await start()
    beside = submit(worker, "waits !hang")
    await tools.first_text(beside)
    dying = submit(worker, "now !die")
    for stream in (beside, dying):
        assert isinstance(await error_of(stream), WorkerDiedError)
    await worker.gone


async def test_an_engine_that_stops_the_loop_ends_its_worker(start: Start) -> None:
    worker = await start()
    error = await error_of(submit(worker, "now !stop-loop"))
    assert isinstance(error, WorkerError)
    assert "the event loop was stopped" in str(error)


async def test_an_engine_that_never_waits_keeps_nobody_from_running(
    start: Start, tools: Any
) -> None:
    worker = await start(step_timeout_s=20.0)
    flood = submit(worker, "!flood")
    await tools.first_text(flood)
    assert await tools.text_of(submit(worker, "me too")) == "me too "
    assert not flood.ended
    flood.cancel()
    assert isinstance(await error_of(flood), CancelledJobError)


async def test_two_hundred_requests_run_at_once(start: Start, tools: Any) -> None:
    worker = await start(slots=256)
    streams = [submit(worker, f"number {n} " + "says this " * 20) for n in range(200)]
    texts = await asyncio.gather(*(tools.text_of(stream) for stream in streams))
    assert all(text.startswith(f"number {n} says this ") for n, text in enumerate(texts))
    found = await counts(worker, tools)
    assert found["closed"] == 200
    assert found["most"] > 100, "they ran beside each other"


async def test_no_more_requests_run_at_once_than_there_are_places(start: Start, tools: Any) -> None:
    worker = await start(slots=3)
    streams = [submit(worker, f"{n} " + "word " * 20) for n in range(40)]
    await asyncio.gather(*(tools.text_of(stream) for stream in streams))
    assert (await counts(worker, tools))["most"] == 3
