"""One worker that waits with its interpreter up, so that a cold load costs the load alone."""

import asyncio
import logging

from corral_kernel.supervisor import WorkerProcess, WorkerSetup

logger = logging.getLogger(__name__)

DELAY_S = 0.3
"""A new one is started this long after it is asked for: first whoever is served now."""

MOST_DELAY_S = 60.0
"""Where one after the other dies, this long after the last in the end."""


class SpareWorker:
    """Keeps at most one.

    Args:
        setup: Of the workers.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._worker: WorkerProcess | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None
        self._dying: set[WorkerProcess] = set()
        self._deaths = 0  # in a row, of workers that waited here
        self._closed = False

    def prepare(self) -> None:
        """Have one soon."""
        if not self._closed and self._timer is None and self._starting is None:
            delay_s = min(DELAY_S * 2.0 ** min(self._deaths, 16), MOST_DELAY_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._begin)

    async def take(self) -> WorkerProcess:
        """The spare, or a new one where there is none."""
        if self._starting is not None:
            await asyncio.shield(self._starting)
        worker = self._worker
        if worker is not None and not worker.is_over:
            self._worker = None
            self._deaths = 0
            return worker
        worker = WorkerProcess(self._setup)
        await worker.start()
        return worker

    async def close(self) -> None:
        """End it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._starting is not None:
            await self._starting
        present = [*self._dying, *([self._worker] if self._worker is not None else [])]
        await asyncio.gather(*(worker.stop() for worker in present))

    def _begin(self) -> None:
        self._timer = None
        if not self._closed and (self._worker is None or self._worker.lost.done()):
            self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        worker = WorkerProcess(self._setup)
        try:
            await worker.start()
            self._worker = worker
            worker.lost.add_done_callback(lambda _: self._lost(worker))
        except OSError as error:
            logger.warning("no spare worker: %s", error)
        finally:
            self._starting = None

    def _lost(self, worker: WorkerProcess) -> None:
        """One ended; if it still waited here, another takes its place."""
        if worker is self._worker:
            self._worker = None
            self._dying.add(worker)
            worker.gone.add_done_callback(lambda _: self._dying.discard(worker))
            self._deaths += 1
            self.prepare()
