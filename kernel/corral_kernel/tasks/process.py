"""One task in a process of its own, as the server sees it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import assert_never

from corral_kernel.errors import CorralError, RemoteJobError, TaskDiedError, TaskError, WorkerError
from corral_kernel.supervisor.child import ChildProcess, Role
from corral_kernel.supervisor.spare import SpareProcess
from corral_kernel.tasks.messages import (
    AnyTask,
    FromTask,
    Made,
    TaskFailed,
    Working,
    decode_from_task,
)

logger = logging.getLogger(__name__)

SPARE_DELAY_S = 10.0
"""A task that lasts this long has another process wait beside it: to start one takes from it."""


class Tasks:
    """Runs tasks.

    Args:
        spare: Gives their processes.
        timeout_s: Without any progress; infinite: none.
    """

    def __init__(self, spare: SpareProcess, timeout_s: float = 900.0) -> None:
        self._spare = spare
        self._timeout_s = timeout_s

    async def run(
        self, task: AnyTask, doing: str, at_end: Callable[[], object] = lambda: None
    ) -> AsyncGenerator[Working | Made, None]:
        """Run a task in a process of its own; gives its progress and, last, what was made.

        Closing the iterator ends the process; once that returns, the process is gone.

        Args:
            task: What to do.
            doing: That in words for messages: `converting m:latest`.
            at_end: Called when the process is gone, though nobody may read its progress by then.

        Raises:
            TaskDiedError: If the process ended before its work was done.
            TaskError: If there was no progress for too long, or the process cannot be started.
            CorralError: What the plugin raised, by its code.
        """
        try:
            process = await self._spare.take()
        except OSError as error:
            raise TaskError(f"no process for {doing} can be started: {error}") from error
        process.gone.add_done_callback(lambda _: self._over(at_end))
        self._spare.prepare(SPARE_DELAY_S)
        try:
            work = _TaskProcess(process, doing)
            work.begin(task, self._timeout_s)
            while True:
                message = await work.next()
                yield message
                if isinstance(message, Made):
                    return
        finally:
            await process.stop()

    def _over(self, at_end: Callable[[], object]) -> None:
        self._spare.prepare()
        at_end()


class _TaskProcess(Role):
    """A process that does one task.

    Progress that is not read is replaced by later progress: a slow client holds nothing up.
    """

    def __init__(self, process: ChildProcess, doing: str) -> None:
        self._process = process
        self._doing = doing
        self._working: Working | None = None
        self._outcome: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()
        process.role = self

    def begin(self, task: AnyTask, timeout_s: float) -> None:
        """Hand the task over."""
        if self._process.lost.done():
            self._settle(self._process.end())
            return
        self._process.watchdog.owe(timeout_s)
        self._process.writer.send(task)

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

    # ---------------------------------------------------------------------------------- as a role

    def receive(self, message: bytes) -> None:
        """Take one message."""
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
            case _:
                assert_never(message)

    def _settle(self, outcome: Made | CorralError) -> None:
        self._process.watchdog.stop()
        if self._outcome.done():
            return
        if isinstance(outcome, Made):
            self._outcome.set_result(outcome)
        else:
            self._outcome.set_exception(outcome)
            with contextlib.suppress(CorralError):
                self._outcome.exception()  # nobody may be left to read it
        self._news.set()

    def silent(self, timeout_s: float) -> None:
        """No progress came."""
        self._process.kill(
            TaskError(
                f"{self._doing} showed no progress for {timeout_s:g} s and was ended; "
                "CORRAL_TASK_TIMEOUT allows more"
            )
        )

    def nonsense(self, error: Exception) -> WorkerError:
        """Give the error for a channel that holds what is no frame."""
        return WorkerError(f"the process {self._doing} sent what is no frame: {error}")

    def death(self) -> CorralError:
        """Why it is over."""
        process = self._process
        return TaskDiedError(self._doing, process.exit_status, process.last_words)

    def ended(self, error: CorralError, *, known: bool) -> None:
        """Tell whoever waits for it."""
        process = self._process
        if not self._outcome.done() and not (known and process.cause is None):
            logger.warning("%s; it printed last: %s", error, process.last_words or "-")
        self._settle(error)
