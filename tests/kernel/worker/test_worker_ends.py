"""How a worker process ends: never after its server, and never with another's end of a channel."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from corral_kernel import frames, framing
from corral_kernel.worker.channel import EXIT_CHANNEL_BROKEN
from corral_kernel.worker.process import EXIT_LOAD_FAILED

Start = Callable[..., Any]


def changed(load: frames.Load, **fields: Any) -> frames.Load:
    return msgspec.structs.replace(load, **fields)


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"api_version": 99}, "unsupported", "the server speaks worker API 99, this worker 1"),
        ({"options": {"num_ctx": 1, "unheard": 1}}, "invalid_option", "unheard"),
        ({"options": {"echo_load_fails": True}}, "load_failed", "echo was told to fail"),
        ({"plugin": "gone"}, "plugin", "plugin 'gone' is not installed here"),
    ],
    ids=["version", "option", "engine", "plugin"],
)
def test_a_load_that_fails_is_answered_and_ends_the_worker(
    raw_worker: Start, tools: Any, fields: dict[str, Any], code: str, words: str
) -> None:
    worker = raw_worker()
    answer = worker.load(changed(tools.load(), **fields))
    assert isinstance(answer, frames.LoadFailed)
    assert answer.code == code
    assert words in answer.message
    assert worker.wait() == EXIT_LOAD_FAILED


def test_a_backend_that_is_gone_is_named(raw_worker: Start, tools: Any) -> None:
    claim = frames.Claim(backend="ghost", confidence=1.0, why="", capabilities=())
    answer = raw_worker().load(changed(tools.load(), claim=claim))
    assert answer == frames.LoadFailed(
        code="plugin", message="backend 'ghost' is not installed here any more"
    )


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x02\x00\x00\x00\x00\xc1"],
    ids=["another protocol", "over the bound", "no message"],
)
def test_garbage_ends_the_worker(raw_worker: Start, data: bytes) -> None:
    worker = raw_worker()
    worker.socket.sendall(data)
    assert worker.wait() == EXIT_CHANNEL_BROKEN


def test_a_job_before_its_model_ends_the_worker(raw_worker: Start) -> None:
    worker = raw_worker()
    worker.send(frames.Cancel(job_id=1))
    assert worker.wait() == EXIT_CHANNEL_BROKEN


@pytest.mark.parametrize(
    ("faults", "until"),
    [
        (None, "hello"),
        ({"echo_load_ms": 60_000}, "loading"),
        ({"echo_load_ms": 60_000, "echo_load_silent": True}, "sent"),
        ({}, "loaded"),
        ({"echo_step_ms": 5}, "decode"),
        ({"echo_hang_at": 3}, "decode"),
        ({"echo_step_ms": 60_000}, "step"),
        ({"echo_ignore_signals": True}, "decode"),
    ],
    ids=[
        "spare",
        "loading",
        "silent loading",
        "idle",
        "decoding",
        "hanging",
        "long step",
        "deaf",
    ],
)
def test_a_worker_ends_with_its_channel_while_its_parent_lives(
    raw_worker: Start, tools: Any, faults: dict[str, Any] | None, until: str
) -> None:
    worker = raw_worker()
    assert isinstance(worker.receive(), frames.Hello)
    if faults is not None:
        worker.send(tools.load(**faults))
    if until == "loading":
        assert isinstance(worker.receive(), frames.Loading)
    elif until in ("loaded", "decode", "step"):
        assert isinstance(worker.receive(), frames.Loaded)
    if until in ("decode", "step"):
        worker.send(
            frames.Generate(
                job_id=1,
                prompt=frames.PromptSpec(text="a" * 300),
                options=frames.RequestOptions(),
            )
        )
        worker.until(
            lambda: bool(worker.of(1, frames.Text if until == "decode" else frames.Accepted))
        )
    worker.socket.close()
    assert worker.wait() in (0, EXIT_CHANNEL_BROKEN)


PARENT = """
import subprocess, sys, msgspec, os
from corral_kernel.worker.setup import Setup
descriptor = int(sys.argv[1])
setup = Setup(descriptor=descriptor, parent=os.getpid(), only=("echo",))
command = [sys.executable, "-m", "corral_kernel.worker", msgspec.json.encode(setup)]
worker = subprocess.Popen(command, pass_fds=[descriptor], start_new_session=True)
print(worker.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the channel's end has to do")
@pytest.mark.parametrize("faults", [{}, {"echo_hang_at": 1, "echo_ignore_signals": True}])
def test_a_worker_ends_with_its_parent_while_its_channel_is_open(
    tools: Any, nothing_left: None, faults: dict[str, Any]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", PARENT, str(theirs.fileno())]
        with subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            ours.recv(1, socket.MSG_PEEK)  # its hello: it is up
            if faults:
                job = frames.Generate(
                    job_id=1,
                    prompt=frames.PromptSpec(text="a"),
                    options=frames.RequestOptions(),
                )
                self_load(ours, tools.load(**faults))
                ours.sendall(b"".join(framing.to_frames(frames.encode(job), 1)))
            os.kill(parent.pid, signal.SIGKILL)
            tools.wait_gone(pid)


def self_load(channel: socket.socket, load: frames.Load) -> None:
    channel.sendall(b"".join(framing.to_frames(frames.encode(load), 0)))
    assembler = framing.Assembler()
    decode = msgspec.msgpack.Decoder(frames.Hello | frames.FromWorker).decode
    while True:
        for message in assembler.feed(channel.recv(1 << 16)):
            if isinstance(decode(message), frames.Loaded):
                return


def test_a_worker_whose_parent_is_gone_before_it_is_up_ends_at_once(nothing_left: None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        setup = f'{{"descriptor": {theirs.fileno()}, "parent": 1}}'
        result = subprocess.run(
            [sys.executable, "-m", "corral_kernel.worker", setup],
            pass_fds=[theirs.fileno()],
            check=False,
            timeout=60,
        )
    assert result.returncode == 0
