"""One worker process, as the server sees it."""

import asyncio
import logging
import os
from typing import assert_never

import msgspec

from corral_kernel import API_VERSION, frames
from corral_kernel.contracts import EngineInfo
from corral_kernel.errors import (
    CorralError,
    LoadError,
    LoadTimeoutError,
    RemoteJobError,
    ShuttingDownError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from corral_kernel.supervisor.child import ChildProcess
from corral_kernel.supervisor.jobs import JobLimits, JobStream
from corral_kernel.supervisor.watchdog import NEVER
from corral_kernel.worker.outbox import INTERVAL_S
from corral_kernel.worker.setup import Setup

logger = logging.getLogger(__name__)

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
        interval_s: Between two frames of text; see the worker's `Outbox`.
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
    interval_s: float = INTERVAL_S
    limits: JobLimits = JobLimits()
    remotes: tuple[str, ...] = ()


class WorkerProcess(ChildProcess):
    """Starts with `await start()`; over when `gone` is done.

    Every job that is open when the process ends fails with `WorkerDiedError`.

    Args:
        setup: What all workers share.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        super().__init__("corral_kernel.worker")
        self._setup = setup
        self._name = "a spare"
        self._loaded: asyncio.Future[EngineInfo] | None = None
        self._jobs: dict[int, JobStream] = {}
        self._last_job = 0
        self._overdue: dict[int, asyncio.TimerHandle] = {}  # cancelled jobs, whose end is owed
        self._load_failed = False  # it told why and ends by itself

    def _argument(self, descriptor: int) -> str:
        setup = Setup(
            descriptor=descriptor,
            parent=os.getpid(),
            only=self._setup.only,
            disabled=self._setup.disabled,
            debug=self._setup.debug,
            text_deadline_s=self._setup.text_deadline_s,
            sampler_timeout_s=min(self._setup.sampler_timeout_s, LONGEST_TIMEOUT_S),
            interval_s=min(self._setup.interval_s, LONGEST_TIMEOUT_S),
        )
        return msgspec.json.encode(setup).decode()

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

    def _receive(self, message: bytes) -> None:
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

    def _said_nonsense(self, error: Exception) -> WorkerError:
        return WorkerError(f"worker for {self._name!r} sent what is no frame: {error}")

    # --------------------------------------------------------------------------------- the end

    def _closing(self) -> None:
        for timer in self._overdue.values():
            timer.cancel()

    def _ended(self, error: CorralError, *, known: bool) -> None:
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
