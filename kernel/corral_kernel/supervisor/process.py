"""One worker process, as the server sees it."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import cast

import msgspec

from corral_kernel import API_VERSION, frames
from corral_kernel.contracts import EngineInfo
from corral_kernel.errors import (
    CorralError,
    FrameError,
    LoadError,
    LoadTimeoutError,
    RemoteJobError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from corral_kernel.supervisor.jobs import JobLimits, JobStream
from corral_kernel.supervisor.output_tail import OutputTail
from corral_kernel.worker.setup import Setup

logger = logging.getLogger(__name__)

BUFFER_BYTES = 1 << 20
CHECKS = 4
"""Looks at the clock in each timeout."""


class WorkerSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers of a server share.

    Args:
        only: Plugins to load; None: all.
        disabled: Plugins to leave out.
        debug: Have workers log more.
        load_timeout_s: Of loading without progress; infinite: none.
        step_timeout_s: While a job is open, of silence; infinite: none.
        limits: Of readers of jobs.
    """

    only: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    debug: bool = False
    load_timeout_s: float = 300.0
    step_timeout_s: float = 120.0
    limits: JobLimits = JobLimits()


class WorkerProcess(asyncio.Protocol):
    """Starts with `await start()`; over when `gone` is done.

    Every job that is open when the process ends fails with `WorkerDiedError`.

    Args:
        setup: What all workers share.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.name = "a spare"
        self.on_loading: Callable[[float], None] = lambda _share: None
        self._loaded: asyncio.Future[EngineInfo] | None = None
        self._assembler = frames.Assembler()
        self._jobs: dict[int, JobStream] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._next_job = 0
        self._next_stream = 0
        self._deadline_s = float("inf")
        self._heard_at = time.monotonic()
        self._watch: asyncio.TimerHandle | None = None
        self._cause: CorralError | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._transport: asyncio.Transport
        self._process: subprocess.Popen[bytes]
        self._tail: OutputTail
        self._ending: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------- life and death

    async def start(self) -> None:
        """Fork and exec; the worker imports on while this returns."""
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        read_end, write_end = os.pipe()
        with theirs, open(write_end, "wb") as output:  # noqa: ASYNC230, PTH123 - a pipe's end: only closed here
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - forked by this thread, on purpose; our own program
                [sys.executable, "-m", "corral_kernel.worker", self._argument(theirs)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a terminal's Ctrl-C is for the server
            )
        loop = asyncio.get_running_loop()
        self._tail = OutputTail(self.pid)
        await loop.connect_read_pipe(lambda: self._tail, open(read_end, "rb", buffering=0))  # noqa: ASYNC230, PTH123, SIM115 - the transport closes it
        await loop.create_connection(lambda: self, sock=ours)

    def _argument(self, theirs: socket.socket) -> str:
        setup = Setup(
            descriptor=theirs.fileno(),
            parent=os.getpid(),
            only=self._setup.only,
            disabled=self._setup.disabled,
            debug=self._setup.debug,
        )
        return msgspec.json.encode(setup).decode()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def kill(self, cause: CorralError | None = None) -> None:
        """End it now; open jobs fail with `cause`, or as with any death."""
        self._cause = self._cause or cause
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Kill it and wait until it is gone and its memory free."""
        self.kill()
        await asyncio.shield(self.gone)

    # ---------------------------------------------------------------------------------- loading

    async def load(self, name: str, load: frames.Load) -> EngineInfo:
        """Load a model.

        Args:
            name: Of the model, for messages.
            load: What to load; the timeouts are this server's.

        Raises:
            LoadError: The engine's reason.
            WorkerDiedError: If the process ended.
        """
        self.name = name
        self._loaded = asyncio.get_running_loop().create_future()
        step = min(self._setup.step_timeout_s, 86400.0)
        self._owes_within(self._setup.load_timeout_s)
        self._send(msgspec.structs.replace(load, step_timeout_s=step))
        try:
            return await asyncio.shield(self._loaded)
        finally:
            self._owes_within(float("inf"))

    # ------------------------------------------------------------------------------------- jobs

    def submit(self, job: frames.Generate | frames.Encode) -> JobStream:
        """Run a job, under an id of this worker's own."""
        self._next_job += 1
        job = msgspec.structs.replace(job, job_id=self._next_job)
        stream = JobStream(self._next_job, self, self._setup.limits)
        if self.gone.done() or self._ending is not None:
            stream.fail(self._death())
            return stream
        self._jobs[self._next_job] = stream
        if len(self._jobs) == 1:
            self._owes_within(self._setup.step_timeout_s)
        self._send(job)
        return stream

    def cancel(self, job_id: int) -> None:
        """End a job, after all of its request is written."""
        self._after_sending(frames.Cancel(job_id=job_id))

    def pause(self, job_id: int) -> None:
        """Stop feeding a job."""
        self._after_sending(frames.Pause(job_id=job_id))

    def resume(self, job_id: int) -> None:
        """Go on feeding it."""
        self._after_sending(frames.Resume(job_id=job_id))

    # ---------------------------------------------------------------------------------- writing

    def _send(self, message: frames.ToWorker) -> None:
        self._next_stream += 1
        pieces = frames.to_frames(frames.encode(message), self._next_stream)
        first, second = next(pieces), next(pieces, None)
        self._transport.write(first)
        if second is not None:
            task = asyncio.get_running_loop().create_task(self._send_rest(second, pieces))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_rest(self, piece: bytes, more: Iterator[bytes]) -> None:
        """Write a long message as the worker reads it, so that short ones get in between."""
        while piece and not self._transport.is_closing():
            await self._room.wait()
            self._transport.write(piece)
            piece = next(more, b"")

    def _after_sending(self, message: frames.ToWorker) -> None:
        if self._transport.is_closing():
            return
        if not self._sending:
            self._send(message)
            return
        waiting = asyncio.gather(*self._sending, return_exceptions=True)
        waiting.add_done_callback(lambda _: self._after_sending(message))

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._room.clear()

    def resume_writing(self) -> None:
        """It has room again."""
        self._room.set()

    # ---------------------------------------------------------------------------------- reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The channel is open."""
        # No isinstance: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of frames."""
        self._heard_at = time.monotonic()
        try:
            for message in self._assembler.feed(data):
                self._take(frames.decode_from_worker(message))
        except (FrameError, msgspec.MsgspecError) as error:
            self.kill(WorkerError(f"worker for {self.name!r} sent what is no frame: {error}"))

    def _take(self, message: frames.FromWorker) -> None:
        match message:
            case frames.Step():
                for event in message.events:
                    self._dispatch(event)
            case frames.Loading():
                self.on_loading(message.share)
            case frames.Loaded():
                self._settle_load(message.info)
            case frames.LoadFailed():
                self._settle_load(RemoteJobError(message.code, message.message))
            case frames.Hello():
                if message.api_version != API_VERSION:
                    words = f"a worker of API {message.api_version}, this is {API_VERSION}"
                    self.kill(LoadError(words))

    def _dispatch(self, event: frames.JobEvent) -> None:
        stream = self._jobs.get(event.job_id)
        if stream is None:
            return
        if isinstance(event, frames.Done | frames.Failed):
            del self._jobs[event.job_id]
            if not self._jobs:
                self._owes_within(float("inf"))
        stream.put(event)

    def _settle_load(self, outcome: EngineInfo | CorralError) -> None:
        if self._loaded is None or self._loaded.done():
            return
        if isinstance(outcome, CorralError):
            self._loaded.set_exception(outcome)
        else:
            self._loaded.set_result(outcome)

    # --------------------------------------------------------------------------------- watching

    def _owes_within(self, timeout_s: float) -> None:
        """From now on a frame is owed in each `timeout_s`; infinite: none is."""
        self._deadline_s = timeout_s
        self._heard_at = time.monotonic()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if timeout_s < float("inf"):
            self._look()

    def _look(self) -> None:
        if time.monotonic() - self._heard_at > self._deadline_s:
            self.kill(self._overdue())
            return
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(self._deadline_s / CHECKS, self._look)

    def _overdue(self) -> CorralError:
        if self._loaded is not None and not self._loaded.done():
            return LoadTimeoutError(
                f"timed out waiting for llama runner to start - {self.name} showed no progress "
                f"for {self._deadline_s:g} s"
            )
        return WorkerHungError(
            f"worker for {self.name!r} was silent for {self._deadline_s:g} s with requests open; "
            "it was killed"
        )

    # --------------------------------------------------------------------------------- the end

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed: the process is over, or as good as."""
        del exc
        self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        self._owes_within(float("inf"))
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)  # it may hang on its way out
        await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        with contextlib.suppress(TimeoutError):  # what it printed last tells why
            await asyncio.wait_for(asyncio.shield(self._tail.closed), 0.2)
        error = self._death()
        self._settle_load(error)
        for stream in list(self._jobs.values()):
            stream.fail(error)
        self._jobs.clear()
        if not self.gone.done():
            self.gone.set_result(None)

    def _death(self) -> CorralError:
        if self._cause is not None:
            return self._cause
        return WorkerDiedError(self.name, self._process.returncode, self._tail.last_line())
