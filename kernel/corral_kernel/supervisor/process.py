"""One worker process, as the server sees it."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from typing import BinaryIO, assert_never, cast

import msgspec

from corral_kernel import API_VERSION, frames
from corral_kernel.contracts import EngineInfo
from corral_kernel.errors import (
    CorralError,
    FrameError,
    LoadError,
    LoadTimeoutError,
    RemoteJobError,
    ShuttingDownError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from corral_kernel.supervisor.jobs import JobLimits, JobStream
from corral_kernel.supervisor.output_tail import OutputTail
from corral_kernel.supervisor.watchdog import NEVER, Watchdog
from corral_kernel.supervisor.writer import Writer
from corral_kernel.worker.setup import Setup

logger = logging.getLogger(__name__)

BUFFER_BYTES = 1 << 20
REAP_INTERVAL_S = 0.005
LAST_WORDS_S = 0.2
"""How long the output of a process that is over may take to arrive."""
LONGEST_TIMEOUT_S = 86400.0


class WorkerSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers of a server share.

    Args:
        only: Plugins to load; None: all.
        disabled: Plugins to leave out.
        debug: Have workers log more.
        load_timeout_s: Of loading without progress; infinite: none.
        step_timeout_s: While a job is open, of silence; infinite: none.
        text_deadline_s: Of rendering, tokenizing and compiling one request.
        sampler_timeout_s: Of a request's samplers and constraint in one step; infinite: none.
        limits: Of readers of jobs.
        remotes: Hosts that models may run on.
    """

    only: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    debug: bool = False
    load_timeout_s: float = 300.0
    step_timeout_s: float = 120.0
    text_deadline_s: float = 20.0
    sampler_timeout_s: float = 1.0
    limits: JobLimits = JobLimits()
    remotes: tuple[str, ...] = ()


class WorkerProcess(asyncio.Protocol):
    """Starts with `await start()`; over when `gone` is done.

    Every job that is open when the process ends fails with `WorkerDiedError`.

    Args:
        setup: What all workers share.

    Attributes:
        lost: Done as soon as it takes no more jobs: it was killed, or its channel is closed.
        gone: Done when the process is over and its memory free.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._name = "a spare"
        self._loaded: asyncio.Future[EngineInfo] | None = None
        self._assembler = frames.Assembler()
        self._writer = Writer()
        self._watchdog = Watchdog(self._silent)
        self._jobs: dict[int, JobStream] = {}
        self._last_job = 0
        self._overdue: dict[int, asyncio.TimerHandle] = {}  # cancelled jobs, whose end is owed
        self._cause: CorralError | None = None
        self._load_failed = False  # it told why and ends by itself
        self._process: subprocess.Popen[bytes]
        self._tail: OutputTail
        self._ending: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------- life and death

    async def start(self) -> None:
        """Fork and exec; the worker imports on while this returns.

        Raises:
            OSError: If there is no room for one more process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                output = self._spawn(theirs)
            except BaseException:
                ours.close()
                raise
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        try:
            loop = asyncio.get_running_loop()
            self._tail = OutputTail(self.pid)
            await loop.connect_read_pipe(lambda: self._tail, output)
            await loop.create_connection(lambda: self, sock=ours)
        except BaseException:
            self._kill_all()
            self._process.wait()
            ours.close()
            output.close()
            raise

    def _spawn(self, theirs: socket.socket) -> BinaryIO:
        read_end, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                # Without -P a file of the working directory could stand in for any module.
                [sys.executable, "-P", "-m", "corral_kernel.worker", self._argument(theirs)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,  # a terminal's Ctrl-C is for the server
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return open(read_end, "rb", buffering=0)  # noqa: PTH123 - a pipe; its transport closes it

    def _argument(self, theirs: socket.socket) -> str:
        setup = Setup(
            descriptor=theirs.fileno(),
            parent=os.getpid(),
            only=self._setup.only,
            disabled=self._setup.disabled,
            debug=self._setup.debug,
            text_deadline_s=self._setup.text_deadline_s,
            sampler_timeout_s=min(self._setup.sampler_timeout_s, LONGEST_TIMEOUT_S),
        )
        return msgspec.json.encode(setup).decode()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether it ended, noticed or not. It is not reaped by this: its id stays its own."""
        if self.lost.done() or not hasattr(os, "waitid"):
            return self.lost.done()
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    @property
    def last_words(self) -> str:
        """The last line that it printed."""
        return self._tail.last_line()

    def kill(self, cause: CorralError | None = None) -> None:
        """End it now; open jobs fail with `cause`, or as with any death."""
        self._cause = self._cause or cause
        self._lose()
        if self._ending is None:
            self._kill_all()

    async def stop(self, cause: CorralError | None = None) -> None:
        """Kill it and wait until it is gone and its memory free."""
        self.kill(cause)
        await asyncio.shield(self.gone)

    def _kill_all(self) -> None:
        """End the process and what it started. It is not reaped yet: its id is nobody else's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    # ---------------------------------------------------------------------------------- loading

    async def load(self, name: str, load: frames.Load) -> EngineInfo:
        """Load a model.

        Args:
            name: Of the model, for messages.
            load: What to load; the timeouts are this server's.

        Raises:
            RemoteJobError: The engine's reason.
            LoadTimeoutError: If it showed no progress.
            WorkerDiedError: If the process ended.
        """
        self._name = name
        if self.lost.done():
            raise self._death()
        self._loaded = asyncio.get_running_loop().create_future()
        self._watchdog.owe(self._setup.load_timeout_s)
        step_timeout_s = min(self._setup.step_timeout_s, LONGEST_TIMEOUT_S)
        try:
            ours = {"step_timeout_s": step_timeout_s, "remotes": self._setup.remotes}
            self._writer.send(msgspec.structs.replace(load, **ours))
            return await self._loaded
        finally:
            self._watchdog.stop()

    # ------------------------------------------------------------------------------------- jobs

    def submit(self, job: frames.Generate | frames.Encode) -> JobStream:
        """Run a job, under an id of this worker's own.

        Raises:
            InvalidRequestError: If it holds what no message can.
        """
        self._last_job = job_id = self._last_job + 1
        stream = JobStream(job_id, self, self._setup.limits)
        if self.lost.done():
            stream.fail(self._death())
            return stream
        self._writer.send(msgspec.structs.replace(job, job_id=job_id), job_id)
        self._jobs[job_id] = stream
        if len(self._jobs) == 1:
            self._watchdog.owe(self._setup.step_timeout_s)
        return stream

    def cancel(self, job_id: int) -> None:
        """End a job, after all of its request is written; its end is owed like a step."""
        self._writer.send_after(job_id, frames.Cancel(job_id=job_id))
        timeout_s = self._setup.step_timeout_s
        if job_id in self._jobs and job_id not in self._overdue and timeout_s < NEVER:
            loop = asyncio.get_running_loop()
            self._overdue[job_id] = loop.call_later(timeout_s, self._silent, timeout_s)

    def pause(self, job_id: int) -> None:
        """Stop feeding a job."""
        self._writer.send_after(job_id, frames.Pause(job_id=job_id))

    def resume(self, job_id: int) -> None:
        """Go on feeding it."""
        self._writer.send_after(job_id, frames.Resume(job_id=job_id))

    # ------------------------------------------------------------------------------ the channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The channel is open."""
        # No isinstance: uvloop's transports are no subclasses of asyncio's.
        self._writer.open(cast("asyncio.Transport", transport))

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._writer.pause()

    def resume_writing(self) -> None:
        """It has room again."""
        self._writer.resume()

    def data_received(self, data: bytes) -> None:
        """Bytes of frames; those of a worker that was given up are not looked at."""
        if self.lost.done():
            return
        self._watchdog.heard()
        try:
            for message in self._assembler.feed(data):
                self._take(frames.decode_from_worker(message))
        except (FrameError, msgspec.MsgspecError) as error:
            self.kill(WorkerError(f"worker for {self._name!r} sent what is no frame: {error}"))

    def _take(self, message: frames.FromWorker) -> None:
        match message:
            case frames.Step():
                for event in message.events:
                    self._dispatch(event)
            case frames.Loading():
                logger.debug("%s: %d %% loaded", self._name, 100 * message.share)
            case frames.Loaded():
                self._settle_load(message.info)
            case frames.LoadFailed():
                self._load_failed = True
                self._settle_load(RemoteJobError(message.code, message.message))
            case frames.Hello():
                if message.api_version != API_VERSION:
                    words = f"a worker of API {message.api_version}, this is {API_VERSION}"
                    self.kill(LoadError(words))
            case _:
                assert_never(message)

    def _dispatch(self, event: frames.JobEvent) -> None:
        stream = self._jobs.get(event.job_id)
        if stream is None:
            return
        if isinstance(event, frames.Done | frames.Failed):
            del self._jobs[event.job_id]
            if overdue := self._overdue.pop(event.job_id, None):
                overdue.cancel()
            if not self._jobs:
                self._watchdog.stop()
        stream.put(event)

    def _settle_load(self, outcome: EngineInfo | CorralError) -> None:
        if self._loaded is None or self._loaded.done():
            return
        if isinstance(outcome, CorralError):
            self._loaded.set_exception(outcome)
        else:
            self._loaded.set_result(outcome)

    def _silent(self, timeout_s: float) -> None:
        """A frame was owed and did not come."""
        cause: CorralError = WorkerHungError(
            f"worker for {self._name!r} was silent for {timeout_s:g} s with requests open; "
            "it was killed",
            alone=len(self._jobs) == 1,
        )
        if self._loaded is not None and not self._loaded.done():
            cause = LoadTimeoutError(
                f"timed out waiting for llama-server to start - {self._name} showed no progress "
                f"for {timeout_s:g} s"
            )
        self.kill(cause)

    # --------------------------------------------------------------------------------- the end

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed: the process is over, or as good as."""
        del exc
        self._writer.close()
        self._watchdog.stop()
        for timer in self._overdue.values():
            timer.cancel()
        self._kill_all()  # it may hang on its way out
        self._ending = asyncio.get_running_loop().create_task(self._end(known=self.lost.done()))
        self._lose()

    async def _end(self, *, known: bool) -> None:
        # The pool's threads, one of which could wait for it, may all be busy for long.
        while self._process.poll() is None:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(REAP_INTERVAL_S)
        with contextlib.suppress(TimeoutError):  # what it printed last tells why
            await asyncio.wait_for(asyncio.shield(self._tail.closed), LAST_WORDS_S)
        self._tail.close()
        error = self._death()
        self._tell(error, known=known)
        self._settle_load(error)
        self.gone.set_result(None)
        for stream in self._jobs.values():
            stream.fail(error)
        self._jobs.clear()

    def _tell(self, error: CorralError, *, known: bool) -> None:
        """Log one line of an end that nobody ordered, with all that there is to look into it."""
        ordered = known and (self._cause is None or isinstance(self._cause, ShuttingDownError))
        if ordered or self._load_failed:
            return
        last = "" if self._cause is None else f"; it printed last: {self.last_words or '-'}"
        logger.warning("%s (pid %d, requests open: %d)%s", error, self.pid, len(self._jobs), last)

    def _death(self) -> CorralError:
        if self._cause is not None:
            return self._cause
        return WorkerDiedError(self._name, self._process.returncode, self.last_words)
