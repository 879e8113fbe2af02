"""One process that waits with its interpreter up, so that who needs one has it at once.

It becomes a worker or does a task: which, its first message tells it.
"""

import asyncio
import logging

from corral_kernel.supervisor.child import ChildProcess
from corral_kernel.supervisor.setup import WorkerSetup

logger = logging.getLogger(__name__)

DELAY_S = 0.3
"""A new one is started this long after it is asked for: first whoever is served now."""

ANSWER_S = 30.0
"""A spare that says nothing for so long is not taken: it hangs, or is about to end."""

MOST_DELAY_S = 60.0
"""Where one after the other dies, this long after the last in the end."""


class SpareProcess:
    """Keeps at most one.

    Args:
        setup: Of all processes.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._process: ChildProcess | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer ends, by the loop's clock
        self._starting: asyncio.Task[None] | None = None
        self._dying: set[ChildProcess] = set()
        self._deaths = 0  # in a row, of processes that waited here
        self._closed = False

    def prepare(self, after_s: float = 0.0) -> None:
        """Have one soon.

        Args:
            after_s: Not before that: what runs until then needs the machine. Who asks for one
                sooner has it sooner.
        """
        if self._closed or self._starting is not None:
            return
        loop = asyncio.get_running_loop()
        delay_s = min(max(after_s, DELAY_S * 2.0 ** min(self._deaths, 16)), MOST_DELAY_S)
        due = loop.time() + delay_s
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = loop.call_later(delay_s, self._begin)

    async def take(self) -> ChildProcess:
        """The spare, or a new one where there is none.

        Raises:
            OSError: If there is no room for one more process.
        """
        if self._starting is not None:
            await asyncio.shield(self._starting)
        process = await self._take_waiting()
        if process is None:
            process = ChildProcess(self._setup)
            await process.start()
        return process

    async def _take_waiting(self) -> ChildProcess | None:
        process, self._process = self._process, None
        if process is None:
            return None
        listens = False
        try:
            listens = await process.listens(ANSWER_S)
        finally:
            if not listens:
                process.kill()
                self._see_off(process)
        if not listens:
            return None
        self._deaths = 0
        return process

    async def close(self) -> None:
        """End it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._starting is not None:
            await self._starting
        present = [*self._dying, *([self._process] if self._process is not None else [])]
        await asyncio.gather(*(process.stop() for process in present))

    def _begin(self) -> None:
        self._timer = None
        if not self._closed and (self._process is None or self._process.lost.done()):
            self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        process = ChildProcess(self._setup)
        try:
            await process.start()
            self._process = process
            process.lost.add_done_callback(lambda _: self._lost(process))
        except OSError as error:
            logger.warning("no spare process: %s", error)
        finally:
            self._starting = None

    def _lost(self, process: ChildProcess) -> None:
        """One ended; if it still waited here, another takes its place."""
        if process is self._process:
            self._process = None
            self._see_off(process)
            self._deaths += 1
            self.prepare()

    def _see_off(self, process: ChildProcess) -> None:
        """Wait for the end of one at the latest when all is closed."""
        self._dying.add(process)
        process.gone.add_done_callback(lambda _: self._dying.discard(process))
