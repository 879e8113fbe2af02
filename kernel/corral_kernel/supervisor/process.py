"""One worker process, as the server sees it."""

import asyncio
import logging
from typing import assert_never

import msgspec

from corral_kernel import frames
from corral_kernel.contracts import EngineInfo
from corral_kernel.errors import (
    CorralError,
    LoadTimeoutError,
    RemoteJobError,
    ShuttingDownError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from corral_kernel.supervisor.child import ChildProcess, Role
from corral_kernel.supervisor.jobs import JobStream
from corral_kernel.supervisor.setup import LONGEST_TIMEOUT_S
from corral_kernel.supervisor.watchdog import NEVER

logger = logging.getLogger(__name__)


class WorkerProcess(Role):
    """A process that loads a model and runs jobs on it; over when `gone` is done.

    Every job that is open when the process ends fails with `WorkerDiedError`.

    Args:
        process: That runs, and has no role yet.

    Attributes:
        process: Likewise.
        lost: As the process has it.
        gone: Likewise.
    """

    def __init__(self, process: ChildProcess) -> None:
        self.process = process
        self.lost, self.gone = process.lost, process.gone
        self._setup = process.setup
        self._name = "a spare"
        self._loaded: asyncio.Future[EngineInfo] | None = None
        self._jobs: dict[int, JobStream] = {}
        self._last_job = 0
        self._overdue: dict[int, asyncio.TimerHandle] = {}  # cancelled jobs, whose end is owed
        self._load_failed = False  # it told why and ends by itself
        process.role = self

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def last_words(self) -> str:
        """The last line that it printed."""
        return self.process.last_words

    def kill(self, cause: CorralError | None = None) -> None:
        """End it now; what is open fails with `cause`, or as with any death."""
        self.process.kill(cause)

    async def stop(self, cause: CorralError | None = None) -> None:
        """Kill it and wait until it is gone and its memory free."""
        await self.process.stop(cause)

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
            raise self.process.end()
        self._loaded = asyncio.get_running_loop().create_future()
        self.process.watchdog.owe(self._setup.load_timeout_s)
        step_timeout_s = min(self._setup.step_timeout_s, LONGEST_TIMEOUT_S)
        try:
            ours = {"step_timeout_s": step_timeout_s, "remotes": self._setup.remotes}
            self.process.writer.send(msgspec.structs.replace(load, **ours))
            return await self._loaded
        finally:
            self.process.watchdog.stop()

    # ------------------------------------------------------------------------------------- jobs

    def submit(self, job: frames.Generate | frames.Encode) -> JobStream:
        """Run a job, under an id of this worker's own.

        Raises:
            InvalidRequestError: If it holds what no message can.
        """
        self._last_job = job_id = self._last_job + 1
        stream = JobStream(job_id, self, self._setup.limits)
        if self.lost.done():
            stream.fail(self.process.end())
            return stream
        self.process.writer.send(msgspec.structs.replace(job, job_id=job_id), job_id)
        self._jobs[job_id] = stream
        if len(self._jobs) == 1:
            self.process.watchdog.owe(self._setup.step_timeout_s)
        return stream

    def cancel(self, job_id: int) -> None:
        """End a job, after all of its request is written; its end is owed like a step."""
        self.process.writer.send_after(job_id, frames.Cancel(job_id=job_id))
        timeout_s = self._setup.step_timeout_s
        if job_id in self._jobs and job_id not in self._overdue and timeout_s < NEVER:
            loop = asyncio.get_running_loop()
            self._overdue[job_id] = loop.call_later(timeout_s, self.silent, timeout_s)

    def pause(self, job_id: int) -> None:
        """Stop feeding a job."""
        self.process.writer.send_after(job_id, frames.Pause(job_id=job_id))

    def resume(self, job_id: int) -> None:
        """Go on feeding it."""
        self.process.writer.send_after(job_id, frames.Resume(job_id=job_id))

    # ---------------------------------------------------------------------------------- as a role

    def receive(self, message: bytes) -> None:
        """Take one message."""
        self._take(frames.decode_from_worker(message))

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
                self.process.watchdog.stop()
        stream.put(event)

    def _settle_load(self, outcome: EngineInfo | CorralError) -> None:
        if self._loaded is None or self._loaded.done():
            return
        if isinstance(outcome, CorralError):
            self._loaded.set_exception(outcome)
        else:
            self._loaded.set_result(outcome)

    def silent(self, timeout_s: float) -> None:
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

    def nonsense(self, error: Exception) -> WorkerError:
        """Give the error for a channel that holds what is no frame."""
        return WorkerError(f"worker for {self._name!r} sent what is no frame: {error}")

    def closing(self) -> None:
        """Its channel is closed: no end of a job is owed any more."""
        for timer in self._overdue.values():
            timer.cancel()

    def ended(self, error: CorralError, *, known: bool) -> None:
        """Fail what is open."""
        self._tell(error, known=known)
        self._settle_load(error)
        for stream in self._jobs.values():
            stream.fail(error)
        self._jobs.clear()

    def _tell(self, error: CorralError, *, known: bool) -> None:
        """Log one line of an end that nobody ordered, with all that there is to look into it."""
        cause = self.process.cause
        ordered = known and (cause is None or isinstance(cause, ShuttingDownError))
        if ordered or self._load_failed:
            return
        last = "" if cause is None else f"; it printed last: {self.last_words or '-'}"
        logger.warning("%s (pid %d, requests open: %d)%s", error, self.pid, len(self._jobs), last)

    def death(self) -> CorralError:
        """Why it is over."""
        return WorkerDiedError(self._name, self.process.exit_status, self.last_words)
