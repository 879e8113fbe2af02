"""A worker process at the end of a bare socket, so that a test sees every frame."""

import contextlib
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from corral_kernel import frames, framing
from corral_kernel.worker.setup import Setup

LIMIT_S = 60.0
FromProcess = frames.Hello | frames.FromWorker
decode = msgspec.msgpack.Decoder(FromProcess).decode


class RawWorker:
    """Speaks frames with a worker, and remembers every event it got."""

    def __init__(
        self, text_deadline_s: float = 20.0, only: tuple[str, ...] = ("echo", "chat")
    ) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(LIMIT_S)
        setup = Setup(
            descriptor=theirs.fileno(),
            parent=os.getpid(),
            only=only,
            text_deadline_s=text_deadline_s,
        )
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "corral_kernel.worker", msgspec.json.encode(setup)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.events: list[frames.JobEvent] = []
        self.empty_steps = 0
        self._assembler = framing.Assembler()
        self._messages: list[FromProcess] = []
        self._stream = 0

    def send(self, *messages: frames.ToWorker) -> None:
        self._stream += 1
        for message in messages:
            for frame in framing.to_frames(frames.encode(message), self._stream):
                self.socket.sendall(frame)

    def receive(self) -> FromProcess:
        while not self._messages:
            data = self.socket.recv(1 << 18)
            if not data:
                raise EOFError
            self._messages += map(decode, self._assembler.feed(data))
        message = self._messages.pop(0)
        if isinstance(message, frames.Step):
            self.events += message.events
            self.empty_steps += not message.events
        return message

    def load(self, load: frames.Load) -> FromProcess:
        """Load, and give the answer."""
        assert isinstance(self.receive(), frames.Hello)
        self.send(load)
        while isinstance(message := self.receive(), frames.Loading):
            pass
        return message

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.receive()

    def of(self, job_id: int, kind: type = object) -> list[Any]:
        return [e for e in self.events if e.job_id == job_id and isinstance(e, kind)]

    def until_end(self, *job_ids: int) -> None:
        self.until(lambda: all(self.ended(job_id) for job_id in job_ids))

    def ended(self, job_id: int) -> bool:
        return bool(self.of(job_id, frames.Done | frames.Failed))

    def text(self, job_id: int) -> str:
        return "".join(event.content for event in self.of(job_id, frames.Text))

    def ends(self) -> Counter[int]:
        """Ends of each job, once the worker has nothing more to say."""
        self.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self.receive()
        kinds = frames.Done | frames.Failed
        return Counter(event.job_id for event in self.events if isinstance(event, kinds))

    def wait(self) -> int:
        return self.process.wait(LIMIT_S)

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def raw_worker(nothing_left: None) -> Iterator[Callable[..., RawWorker]]:
    """Start bare workers; `raw_worker(load=None)` says hello only."""
    started: list[RawWorker] = []

    def start(load: frames.Load | None = None, **setup: Any) -> RawWorker:
        worker = RawWorker(**setup)
        started.append(worker)
        if load is not None:
            assert isinstance(worker.load(load), frames.Loaded)
        return worker

    yield start
    for worker in started:
        worker.close()
