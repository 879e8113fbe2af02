"""Models loaded for calls, with their files kept meanwhile, and jobs begun on them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from corral_kernel.calls import Call
from corral_kernel.choosing import load_failed
from corral_kernel.completion import Granted
from corral_kernel.errors import (
    LoadError,
    RemoteJobError,
    UnsupportedError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from corral_kernel.frames import Encode, Generate
from corral_kernel.models import Model
from corral_kernel.planning import Plan
from corral_kernel.plugins import KERNEL, Plugins
from corral_kernel.scheduler import Hold, Lease, Scheduler
from corral_kernel.store import Store
from corral_kernel.supervisor import JobStream
from corral_kernel.threads import to_its_end

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Leasing:
    """Gets leases for calls, and begins jobs on them. Belongs to one event loop.

    Args:
        scheduler: Of the server, started.
        store: That has the models.
        plugins: Whose samplers there are.
    """

    def __init__(self, scheduler: Scheduler, store: Store, plugins: Plugins) -> None:
        self.scheduler = scheduler
        self._store = store
        self._plugins = plugins
        self._background: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End all workers, and wait until the files of their models are let go."""
        await self.scheduler.close()
        while self._background:
            await asyncio.wait(self._background)

    async def lease(self, call: Call, plan: Plan) -> tuple[Lease, int]:
        """Wait for a slot of a model, loading it where need be.

        Returns:
            The lease, and the time that it took, in nanoseconds.

        Raises:
            InvalidModelError: If its files are damaged.
            CorralError: Otherwise as `Scheduler.acquire`.
        """
        asked_ns = time.perf_counter_ns()
        if call.model.owner:
            await asyncio.to_thread(self._store.verify, call.model)
        hold = None
        if call.model.folder:
            hold = await asyncio.to_thread(self._store.lay_out, call.model)
        try:
            kept = await self._keep(call.model)
            lease = await self.scheduler.acquire(plan.want, call.keep_alive_ns, kept)
        except (LoadError, RemoteJobError, WorkerDiedError) as error:
            raise load_failed(error, plan.want.name, plan.choice) from error
        finally:
            if hold:
                hold.release()  # from now on the worker's own lock keeps the folder
        return lease, time.perf_counter_ns() - asked_ns

    async def lease_alone(self, call: Call, plan: Plan) -> tuple[Lease, int]:
        """As `lease`, for what nobody else will want: it is not loaded on once nobody waits."""
        try:
            return await self.lease(call, plan)
        except asyncio.CancelledError:
            self.scheduler.expire(plan.want.key)
            raise

    async def begin(
        self,
        call: Call,
        plan: Plan,
        job: Generate | Encode,
        start: Callable[[JobStream, Granted], Awaitable[T]],
    ) -> T:
        """Begin a job on a worker that has the model; on another one if that worker dies first.

        Args:
            call: Names the model.
            plan: How it is loaded.
            job: To run.
            start: Waits for its first piece.

        Raises:
            UnsupportedError: If the plan has adapters, and the backend applies none.
            CorralError: Otherwise as `lease`, and what `start` raises.
        """
        warnings = plan.warnings
        for attempt in ("first", "last"):
            lease, load_ns = await self.lease(call, plan)
            warnings = (*warnings, *lease.warnings)
            if plan.adapters and "adapters" not in lease.info.capabilities:
                lease.release()
                raise UnsupportedError(f"backend {plan.want.claim.backend!r} applies no adapters")
            try:
                granted = Granted(load_ns, (*warnings, *plan.told_by(lease.info)))
                return await start(lease.submit(job), granted)
            except (WorkerDiedError, WorkerHungError) as error:
                if attempt == "last" or self._is_to_blame(job, error):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _is_to_blame(self, job: Generate | Encode, error: WorkerError) -> bool:
        """Whether a worker hung with this job alone, and plugins' code in every step of it.

        To run it once more would only hang another worker for as long.
        """
        if not isinstance(error, WorkerHungError) or not isinstance(job, Generate):
            return False
        names = {sampler.name for sampler in job.chain.samplers}
        giving = (self._plugins.samplers[name][0] for name in names)
        return error.alone and (bool(job.constraint) or any(p is not KERNEL for p in giving))

    async def _keep(self, model: Model) -> Hold | None:
        """Keep the files of a model from being deleted while a worker has them."""
        if model.owner or not model.files:
            return None
        uses: list[Callable[[], None]] = []

        def let_go() -> None:
            for use in uses:
                self._in_background(use)

        try:
            await to_its_end(lambda: uses.append(self._store.use(model)))
        except asyncio.CancelledError:
            let_go()
            raise
        return Hold(model.digest, let_go)

    def _in_background(self, work: Callable[[], None]) -> None:
        """Do what nobody waits for in a thread; `close` does wait."""
        task = asyncio.create_task(asyncio.to_thread(work))
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.warning("clean-up after a model was unloaded: %s", error)
