"""The server's end of a worker: deaths, deadlines, long messages."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from corral_kernel import frames
from corral_kernel.contracts import Message
from corral_kernel.errors import (
    CancelledJobError,
    CorralError,
    InvalidRequestError,
    LoadTimeoutError,
    RemoteJobError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from corral_kernel.supervisor import (
    ChildProcess,
    JobLimits,
    JobStream,
    WorkerProcess,
    WorkerSetup,
)

Start = Callable[..., Awaitable[WorkerProcess]]
ONLY = ("echo", "chat")


async def error_of(stream: JobStream) -> CorralError:
    with pytest.raises(CorralError) as caught:
        [event async for event in stream]
    return caught.value


async def test_jobs_run_side_by_side(start_worker: Start, tools: Any) -> None:
    worker = await start_worker()
    streams = [worker.submit(tools.generate(text)) for text in ("a", "bb", "ccc")]
    assert [await tools.text_of(s) for s in streams] == ["a", "bb", "ccc"]


async def test_a_killed_worker_fails_every_open_job(start_worker: Start, tools: Any) -> None:
    worker = await start_worker(echo_step_ms=5)
    streams = [worker.submit(tools.generate("a" * 500)) for _ in range(3)]
    for stream in streams:
        await tools.first_text(stream)
    os.kill(worker.pid, signal.SIGKILL)
    for stream in streams:
        error = await error_of(stream)
        assert isinstance(error, WorkerDiedError)
        assert error.exit_status == -signal.SIGKILL
    await worker.gone
    assert not psutil.pid_exists(worker.pid)
    assert isinstance(await error_of(worker.submit(tools.generate())), WorkerDiedError)


async def test_an_engine_that_raises_ends_the_worker_and_its_last_words_are_told(
    start_worker: Start, tools: Any, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await start_worker(echo_fail_at=4)
    errors = [await error_of(worker.submit(tools.generate("a" * 50))) for _ in range(2)]
    for error in errors:
        assert isinstance(error, WorkerDiedError)
        assert error.exit_status == 70
        assert error.detail.startswith("RuntimeError: echo was told to fail in this step")
    assert "RuntimeError: echo was told to fail" in caplog.text


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"echo_load_fails": True}, "echo was told to fail"),
        ({"unheard": 1}, "unheard"),
    ],
    ids=["engine", "options"],
)
async def test_a_load_that_fails_says_why(
    start_worker: Start, faults: dict[str, Any], words: str
) -> None:
    with pytest.raises(RemoteJobError, match=words):
        await start_worker(**faults)


async def test_a_worker_that_dies_while_loading_fails_the_load(start_worker: Start) -> None:
    with pytest.raises(WorkerDiedError) as caught:
        await start_worker(echo_load_dies=True)
    assert caught.value.exit_status == -signal.SIGKILL


async def test_a_spare_that_dies_fails_the_load_it_is_given(
    start_worker: Start, tools: Any
) -> None:
    worker = await start_worker(loaded=False)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        await worker.load("echo", tools.load())
    await worker.gone
    with pytest.raises(WorkerDiedError):
        await worker.load("echo", tools.load())


async def test_a_load_without_progress_times_out(start_worker: Start) -> None:
    setup = WorkerSetup(only=ONLY, load_timeout_s=1.0)
    with pytest.raises(LoadTimeoutError, match="timed out waiting for llama-server to start - "):
        await start_worker(setup=setup, echo_load_ms=60_000, echo_load_silent=True)


async def test_a_slow_load_with_progress_does_not_time_out(start_worker: Start, tools: Any) -> None:
    setup = WorkerSetup(only=ONLY, load_timeout_s=2.0)
    worker = await start_worker(setup=setup, echo_load_ms=3000)
    assert await tools.text_of(worker.submit(tools.generate("a"))) == "a"


async def test_a_worker_that_hangs_is_killed_and_its_jobs_fail(
    start_worker: Start, tools: Any
) -> None:
    setup = WorkerSetup(only=ONLY, step_timeout_s=0.5)
    worker = await start_worker(setup=setup, echo_hang_at=4)
    streams = [worker.submit(tools.generate("a" * 50)) for _ in range(2)]
    for stream in streams:
        assert isinstance(await error_of(stream), WorkerHungError)
    await worker.gone
    assert not psutil.pid_exists(worker.pid)


async def test_a_stopped_process_is_killed_when_it_owes_a_frame_and_not_before(
    start_worker: Start, tools: Any
) -> None:
    worker = await start_worker(setup=WorkerSetup(only=ONLY, step_timeout_s=1.0))
    os.kill(worker.pid, signal.SIGSTOP)
    done, _ = await asyncio.wait([worker.gone], timeout=1.5)
    assert not done, "nothing was owed"
    os.kill(worker.pid, signal.SIGCONT)
    assert await tools.text_of(worker.submit(tools.generate("a"))) == "a"
    os.kill(worker.pid, signal.SIGSTOP)
    assert isinstance(await error_of(worker.submit(tools.generate("a"))), WorkerHungError)


@pytest.mark.parametrize("state", ["paused", "in text"])
async def test_a_worker_that_waits_is_not_taken_for_one_that_hangs(
    start_worker: Start, tools: Any, state: str
) -> None:
    setup = WorkerSetup(only=ONLY, step_timeout_s=1.0, text_deadline_s=2.0)
    worker = await start_worker(setup=setup, echo_step_ms=1)
    if state == "paused":
        stream = worker.submit(tools.generate("a" * 100))
        worker.pause(stream.job_id)
        done, _ = await asyncio.wait([worker.lost], timeout=2.0)
        assert not done
        worker.resume(stream.job_id)
        assert await tools.text_of(stream) == "a" * 100
    else:
        loops = "".join(f"{{% for {v} in range(900) %}}" for v in "abc") + "{% endfor %}" * 3
        # In this conversation alone, not when the renderer finds out what the template shows.
        template = "{% if messages[0]['content'] == 'loop' %}" + loops + "{% endif %}"
        messages = (Message(role="user", content="loop"),)
        prompt = frames.PromptSpec(renderer="jinja", template=template, messages=messages)
        # Several of them keep the text threads at it for longer than the step may take.
        streams = [worker.submit(tools.generate(prompt=prompt)) for _ in range(6)]
        for stream in streams:
            error = await error_of(stream)
            assert isinstance(error, RemoteJobError)
            assert error.remote_code in ("template_bounds", "template")  # by steps, or by time
    assert not worker.lost.done()


async def test_a_server_that_was_held_up_itself_blames_no_worker(
    start_worker: Start, tools: Any
) -> None:
    setup = WorkerSetup(only=ONLY, step_timeout_s=1.0)
    worker = await start_worker(setup=setup, echo_step_ms=2)
    stream = worker.submit(tools.generate("a" * 300))
    for _ in range(2):
        await anext(stream)
        time.sleep(1.5)  # noqa: ASYNC251 - the event loop is what is held up
    assert (await tools.text_of(stream)).endswith("a")


async def test_a_flood_of_output_disturbs_nobody(start_worker: Start, tools: Any) -> None:
    worker = await start_worker(echo_flood_bytes=20_000_000)
    assert await tools.text_of(worker.submit(tools.generate("abc"))) == "abc"
    assert worker.last_words.startswith("echo floods its output")
    assert len(worker.process._tail._tail) < 1 << 18


async def test_output_is_logged_up_to_a_rate(
    start_worker: Start, tools: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "corral_kernel.supervisor")
    worker = await start_worker(echo_flood_bytes=3_000_000)
    await tools.text_of(worker.submit(tools.generate("abc")))
    logged = sum(len(r.getMessage()) for r in caplog.records if "floods" in r.getMessage())
    assert 0 < logged < 2_000_000


async def test_a_worker_that_ignores_signals_is_ended_all_the_same(
    start_worker: Start, tools: Any
) -> None:
    worker = await start_worker(echo_ignore_signals=True)
    os.kill(worker.pid, signal.SIGTERM)
    assert await tools.text_of(worker.submit(tools.generate("on"))) == "on"
    await worker.stop()
    assert not psutil.pid_exists(worker.pid)


async def test_a_cancelled_job_ends_and_the_others_go_on(start_worker: Start, tools: Any) -> None:
    worker = await start_worker(echo_step_ms=2)
    first, second = (worker.submit(tools.generate("a" * 200)) for _ in range(2))
    ended = asyncio.Event()
    first.on_end(ended.set)
    await tools.first_text(first)
    first.cancel()
    await ended.wait()
    assert not second.ended
    assert isinstance(await error_of(first), CancelledJobError)
    assert await tools.text_of(second) == "a" * 200


async def test_a_cancelled_job_that_never_ends_costs_the_worker_its_life(
    start_worker: Start, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await start_worker(setup=WorkerSetup(only=ONLY, step_timeout_s=1.0), echo_step_ms=20)
    streams = [worker.submit(tools.generate("a" * 1000)) for _ in range(2)]
    for stream in streams:
        await tools.first_text(stream)
    monkeypatch.setattr(worker.process.writer, "send_after", lambda *_: None)  # the message is lost
    streams[0].cancel()
    assert isinstance(await error_of(streams[1]), WorkerHungError)


async def test_what_is_no_frame_ends_the_worker(start_worker: Start, tools: Any) -> None:
    worker = await start_worker(echo_step_ms=2)
    stream = worker.submit(tools.generate("a" * 500))
    await tools.first_text(stream)
    worker.process.data_received(b"\0\0\0\0garbage")
    error = await error_of(stream)
    assert type(error) is WorkerError
    assert "what is no frame" in str(error)


async def test_a_job_that_no_message_can_hold_is_refused_and_leaves_no_trace(
    start_worker: Start, tools: Any
) -> None:
    worker = await start_worker()
    call = {"function": {"name": "f", "arguments": {"big": 10**40}}}
    prompt = frames.PromptSpec(messages=(Message(role="assistant", tool_calls=(call,)),))
    with pytest.raises(InvalidRequestError, match="cannot be passed on"):
        worker.submit(tools.generate(prompt=prompt))
    assert await tools.text_of(worker.submit(tools.generate("on"))) == "on"


async def cancel_overtakes(worker: WorkerProcess, tools: Any) -> None:
    short = worker.submit(tools.generate("a" * 4000))
    await tools.first_text(short)
    long = [worker.submit(tools.generate("b" * 40_000_000)) for _ in range(2)]
    dropped = long[1]
    dropped.cancel()
    short.cancel()
    assert worker.process.writer._sending
    ended = asyncio.Event()
    short.on_end(ended.set)
    await ended.wait()
    assert worker.process.writer._sending, "the cancel came before the end of the long ones"
    assert isinstance(await error_of(long[0]), RemoteJobError)  # over the context
    assert isinstance(await error_of(dropped), CancelledJobError)
    assert not worker.process.writer._sending
    assert not worker._jobs


async def test_a_cancel_overtakes_the_long_messages_of_others(
    start_worker: Start, tools: Any
) -> None:
    await cancel_overtakes(await start_worker(), tools)


@pytest.fixture
def servers_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    uvloop.new_event_loop().close()  # the first one keeps two descriptors for good
    return uvloop.new_event_loop


def test_a_cancel_overtakes_long_messages_on_the_server_s_own_event_loop(
    servers_loop: Callable[[], asyncio.AbstractEventLoop], tools: Any, nothing_left: None
) -> None:
    async def run() -> None:
        process = ChildProcess(WorkerSetup(only=ONLY))
        await process.start()
        worker = WorkerProcess(process)
        await worker.load("echo", tools.load())
        await cancel_overtakes(worker, tools)
        await worker.stop()

    with asyncio.Runner(loop_factory=servers_loop) as runner:
        runner.run(asyncio.wait_for(run(), 60))


async def test_a_worker_that_dies_amid_a_long_message_leaves_nothing_behind(
    start_worker: Start, tools: Any
) -> None:
    worker = await start_worker()
    os.kill(worker.pid, signal.SIGSTOP)
    stream = worker.submit(tools.generate("b" * 40_000_000))
    await asyncio.sleep(0)
    os.kill(worker.pid, signal.SIGKILL)
    assert isinstance(await error_of(stream), WorkerDiedError)
    await tools.until(lambda: not worker.process.writer._sending)


async def test_a_reader_that_stalls_has_its_job_paused_then_cancelled_and_nobody_else_notices(
    start_worker: Start, tools: Any
) -> None:
    limits = JobLimits(merge_after=4, pause_at=20, stall_s=0.4)
    worker = await start_worker(setup=WorkerSetup(only=ONLY, limits=limits), echo_step_ms=1)
    stalled = worker.submit(tools.generate("a" * 3000))
    ended = asyncio.Event()
    stalled.on_end(ended.set)
    await tools.until(lambda: stalled._paused)
    assert await tools.text_of(worker.submit(tools.generate("b" * 30))) == "b" * 30
    seen = stalled._unread
    assert await tools.text_of(worker.submit(tools.generate("c" * 30))) == "c" * 30
    assert stalled._unread == seen, "its worker produces no more"
    await ended.wait()
    with pytest.raises(CancelledJobError, match="nothing of the answer was read"):
        await tools.text_of(stalled)
    assert await tools.text_of(worker.submit(tools.generate("d"))) == "d"


async def test_a_slow_reader_gets_all_of_its_answer(start_worker: Start, tools: Any) -> None:
    limits = JobLimits(merge_after=4, pause_at=20, stall_s=20)
    worker = await start_worker(setup=WorkerSetup(only=ONLY, limits=limits))
    stream = worker.submit(tools.generate("xyz" * 200))
    pieces = []
    async for event in stream:
        if isinstance(event, frames.Text):
            pieces.append(event.content)
            await asyncio.sleep(0.005)
    assert "".join(pieces) == "xyz" * 200
    assert len(pieces) < 300, "unread text was merged"


async def test_a_program_that_cannot_be_started_leaves_nothing_behind(
    nothing_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(OSError, match="/nonexistent/python"):
        await ChildProcess(WorkerSetup()).start()


async def test_files_of_the_working_directory_stand_in_for_no_module(
    start_worker: Start, tools: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("queue", "msgspec", "numpy", "corral_echo"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    worker = await start_worker()
    assert await tools.text_of(worker.submit(tools.generate("a"))) == "a"


PLUGIN = """
import subprocess
from corral_kernel.errors import LoadError
from corral_kernel.plugins import hookimpl
from corral_kernel.contracts import Backend
CORRAL_API_VERSION = 1

@hookimpl
def corral_backends():
    return [Backend(name="parent")]

@hookimpl
def corral_load(request):
    raise LoadError(str(subprocess.Popen(["sleep", "1000"], close_fds=False).pid))
"""


async def test_what_a_worker_started_ends_with_it(
    start_worker: Start, tools: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_with_child.py").write_text(PLUGIN)
    info = tmp_path / "with_child-1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[corral]\nparent = module_with_child\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = await start_worker(setup=WorkerSetup(only=("parent",)), loaded=False)
    claim = frames.Claim(backend="parent", confidence=1.0, why="", capabilities=())
    load = frames.Load(api_version=1, plugin="parent", claim=claim, options={}, files=(), slots=1)
    with pytest.raises(RemoteJobError) as caught:
        await worker.load("parent", load)
    child = int(str(caught.value))
    await worker.gone  # by itself: the child does not hold its channel open
    tools.wait_gone(child)
