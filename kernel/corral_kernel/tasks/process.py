"""One task process, as the server sees it."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Callable
from typing import assert_never

import msgspec

from corral_kernel import API_VERSION
from corral_kernel.errors import CorralError, RemoteJobError, TaskDiedError, TaskError, WorkerError
from corral_kernel.frames import Hello
from corral_kernel.supervisor.child import ChildProcess
from corral_kernel.tasks.messages import (
    AnyTask,
    FromTask,
    Made,
    TaskFailed,
    TaskSetup,
    Working,
    decode_from_task,
)

logger = logging.getLogger(__name__)


class TaskLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What all task processes of a server share.

    Args:
        debug: Have them log more.
        timeout_s: Without any progress; infinite: none.
    """

    debug: bool = False
    timeout_s: float = 900.0


async def run_task(
    task: AnyTask, doing: str, limits: TaskLimits, at_end: Callable[[], object] = lambda: None
) -> AsyncGenerator[Working | Made, None]:
    """Run a task in a process of its own; gives its progress and, last, what was made.

    Closing the iterator ends the process; once that returns, the process is gone.

    Args:
        task: What to do.
        doing: That in words for messages: `converting m:latest`.
        limits: Of this server.
        at_end: Called when the process is gone, though nobody may read its progress by then.

    Raises:
        TaskDiedError: If the process ended before its work was done.
        TaskError: If there was no progress for too long, or the process cannot be started.
        CorralError: What the plugin raised, by its code.
    """
    process = _TaskProcess(doing, limits)
    try:
        await process.start()
    except OSError as error:
        raise TaskError(f"no process for {doing} can be started: {error}") from error
    process.gone.add_done_callback(lambda _: at_end())
    try:
        process.begin(task)
        while True:
            message = await process.next()
            yield message
            if isinstance(message, Made):
                return
    finally:
        await process.stop()


class _TaskProcess(ChildProcess):
    """Does one task.

    Progress that is not read is replaced by later progress: a slow client holds nothing up.
    """

    def __init__(self, doing: str, limits: TaskLimits) -> None:
        super().__init__("corral_kernel.tasks")
        self._doing = doing
        self._limits = limits
        self._working: Working | None = None
        self._outcome: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()

    def begin(self, task: AnyTask) -> None:
        """Hand the task over."""
        self._watchdog.owe(self._limits.timeout_s)
        self._writer.send(task)

    async def next(self) -> Working | Made:
        """Wait for progress or the end.

        Raises:
            CorralError: Why it failed.
        """
        await self._news.wait()
        if self._working is not None:
            working, self._working = self._working, None
            if not self._outcome.done():
                self._news.clear()
            return working
        return await self._outcome

    # ------------------------------------------------------------------- as a kind of process

    def _argument(self, descriptor: int) -> str:
        setup = TaskSetup(
            descriptor=descriptor,
            parent=os.getpid(),
            debug=self._limits.debug,
        )
        return msgspec.json.encode(setup).decode()

    def _receive(self, message: bytes) -> None:
        self._take(decode_from_task(message))

    def _take(self, message: FromTask) -> None:
        match message:
            case Working():
                self._working = message
                self._news.set()
            case Made():
                self._settle(message)
            case TaskFailed():
                self._settle(RemoteJobError(message.code, message.message))
            case Hello():
                if message.api_version != API_VERSION:
                    words = f"a task process of API {message.api_version}, this is {API_VERSION}"
                    self.kill(TaskError(words))
            case _:
                assert_never(message)

    def _settle(self, outcome: Made | CorralError) -> None:
        self._watchdog.stop()
        if self._outcome.done():
            return
        if isinstance(outcome, Made):
            self._outcome.set_result(outcome)
        else:
            self._outcome.set_exception(outcome)
            with contextlib.suppress(CorralError):
                self._outcome.exception()  # nobody may be left to read it
        self._news.set()

    def _silent(self, timeout_s: float) -> None:
        self.kill(
            TaskError(
                f"{self._doing} showed no progress for {timeout_s:g} s and was ended; "
                "CORRAL_TASK_TIMEOUT allows more"
            )
        )

    def _said_nonsense(self, error: Exception) -> WorkerError:
        return WorkerError(f"the process {self._doing} sent what is no frame: {error}")

    def _death(self) -> CorralError:
        if self._cause is not None:
            return self._cause
        return TaskDiedError(self._doing, self._process.returncode, self.last_words)

    def _ended(self, error: CorralError, *, known: bool) -> None:
        if not self._outcome.done() and not (known and self._cause is None):
            logger.warning("%s; it printed last: %s", error, self.last_words or "-")
        self._settle(error)
        self.gone.set_result(None)
