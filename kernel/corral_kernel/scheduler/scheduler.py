"""The owner of all workers' states.

`_pump` is the only place that decides, and it never awaits: between looking at the states and
changing them nothing else runs. It walks the waiting requests in the order of their arrival, and
everything that changes what it looks at calls it again.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine

from corral_kernel.contracts import EngineInfo
from corral_kernel.durations import FOREVER
from corral_kernel.errors import (
    CorralError,
    OutOfMemoryError,
    QueueFullError,
    ShuttingDownError,
    WorkerDiedError,
    WorkerError,
)
from corral_kernel.scheduler.deaths import Deaths
from corral_kernel.scheduler.instance import Instance, State, idle_time
from corral_kernel.scheduler.lease import Hold, Lease, Waiter
from corral_kernel.scheduler.limits import MOST_LIGHT, NS, Limits, slots_for, too_large
from corral_kernel.scheduler.loading import load_on
from corral_kernel.scheduler.memory import default_budget_bytes
from corral_kernel.scheduler.waiting import anybody_for, give_back, queue_length
from corral_kernel.scheduler.want import Want, reload_warning
from corral_kernel.supervisor import SpareProcess, WorkerProcess, WorkerSetup

logger = logging.getLogger(__name__)

MOST_LOADED = 3
"""Models loaded at once on a machine without a GPU, if nothing else is set."""


class Scheduler:
    """Gives leases on loaded models. Belongs to one event loop.

    Args:
        limits: To keep to.
        setup: Of its processes.
        deaths: Judges models whose workers keep dying; None: by its defaults.

    Attributes:
        spare: A process that waits for whoever needs one.
    """

    def __init__(self, limits: Limits, setup: WorkerSetup, deaths: Deaths | None = None) -> None:
        self._limits = limits
        self._max_loaded = limits.max_loaded or MOST_LOADED
        self._budget = limits.budget_bytes or default_budget_bytes()
        self._instances: dict[str, Instance] = {}
        self._waiting: deque[Waiter] = deque()
        self.spare = SpareProcess(setup)
        self._deaths = deaths or Deaths()
        self._tasks: set[asyncio.Task[None]] = set()
        self._retried_memory: set[str] = set()
        self._closing = False

    # ----------------------------------------------------------------------------- from outside

    def start(self) -> None:
        """Begin to keep a spare process."""
        self.spare.prepare()

    async def acquire(
        self, want: Want, keep_alive_ns: int | None, hold: Hold | None = None
    ) -> Lease:
        """Wait for a slot of a model, loading it where need be. First come, first served.

        Args:
            want: What is needed.
            keep_alive_ns: New idle time of the model; None: as it was.
            hold: What is to be kept while a worker has the model; it is let go in every case.

        Raises:
            QueueFullError: If too many wait already.
            LoadError: If it cannot be loaded, or is over the memory budget.
            WorkerDiedError: If its workers keep dying.
        """
        waiter = Waiter(want, keep_alive_ns, hold)
        try:
            return await self._acquire(waiter)
        finally:
            if left := waiter.take_hold():
                left.let_go()

    async def _acquire(self, waiter: Waiter) -> Lease:
        if self._closing:
            raise ShuttingDownError
        self._waiting.append(waiter)
        self._pump()
        if not waiter.lease.done() and self._queue_length(waiter) > self._limits.max_queue:
            self._waiting.remove(waiter)
            raise QueueFullError
        try:
            return await waiter.lease
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise

    def expire(self, key: str) -> None:
        """Unload a model as soon as nobody uses it; until then it serves whoever comes.

        To take no new request at once would have everybody wait for the longest answer under way.
        """
        instance = self._instances.get(key)
        if instance is not None and instance.state in (State.STARTING, State.READY):
            instance.keep_alive_ns = 0
            instance.touch()
            if self._loads_for_nobody(instance):
                self._drain(instance)
            self._rest(instance)

    def running(self) -> list[Instance]:
        """Models that are loaded, on their way out included."""
        return [i for i in self._instances.values() if i.info is not None]

    async def close(self) -> None:
        """End all workers; requests that wait or run fail."""
        self._closing = True
        for waiter in self._waiting:
            waiter.fail(ShuttingDownError())
        self._waiting.clear()
        workers = [i.worker for i in self._instances.values() if i.worker is not None]
        await asyncio.gather(self.spare.close(), *(w.stop(ShuttingDownError()) for w in workers))
        while self._tasks:  # one that starts a worker just now ends it itself
            await asyncio.wait(self._tasks)

    # ----------------------------------------------------------------------------- the decisions

    def _pump(self) -> None:
        """Do all that can be done now. Never awaits."""
        wanted: set[Instance] = set()  # an earlier request waits for a slot of it: no victim
        blocked: set[Instance] = set()  # an earlier request waits for its end: no new leases
        # Key to bytes: an earlier request waits for this much memory. Light ones apart.
        rooms: dict[bool, dict[str, int]] = {False: {}, True: {}}
        for waiter in list(self._waiting):
            instance = self._instances.get(waiter.want.key)
            if waiter.lease.done():
                self._waiting.remove(waiter)
            elif instance is None:
                self._load(waiter, wanted, blocked, rooms[waiter.want.is_light])
            elif not instance.usable:
                if self._loads_for_nobody(instance):
                    self._drain(instance)
            elif waiter.want.is_served_by(instance.want):
                in_turn = instance not in blocked or waiter in instance.owed
                if in_turn and instance.leases < instance.slots:
                    self._grant(waiter, instance)
                elif in_turn:
                    wanted.add(instance)
            else:  # it must be loaded anew, with other options
                self._blame(waiter, instance)
                self._evict(instance, wanted, blocked)

    def _grant(self, waiter: Waiter, instance: Instance) -> None:
        self._waiting.remove(waiter)
        instance.owed.discard(waiter)
        instance.stop_timer()
        instance.leases += 1
        instance.keep(waiter.take_hold())
        if waiter.keep_alive_ns is not None:
            instance.keep_alive_ns = idle_time(waiter.keep_alive_ns)
            instance.touch()
        instance.used_at = time.monotonic()
        if instance.want.is_light:
            instance.models[waiter.want.name] = waiter.want.model
        waiter.lease.set_result(Lease(instance, self._give_back, waiter.warnings))

    def _blame(self, waiter: Waiter, loaded: Instance) -> None:
        """Note the first request for which a model is loaded anew: it will be warned."""
        if loaded.reloaded_for is None:
            loaded.reloaded_for = waiter
            waiter.warnings = (reload_warning(waiter.want, loaded.want),)

    def _load(
        self,
        waiter: Waiter,
        wanted: set[Instance],
        blocked: set[Instance],
        room: dict[str, int],
    ) -> None:
        """Begin to load what a request needs, or make room for it."""
        want = waiter.want
        slots = slots_for(want, self._budget)
        need = want.memory_bytes(slots)
        try:
            self._deaths.check(want)
            if need > self._budget:
                raise too_large(need, self._budget)
        except CorralError as error:
            self._waiting.remove(waiter)
            waiter.fail(error)
            return
        if want.key in room:
            return  # an earlier request sees to it
        present = [i for i in self._instances.values() if i.want.is_light == want.is_light]
        if self._fits(present, need, room, light=want.is_light):
            self._begin(waiter, slots)
            return
        staying = [i for i in present if i.state is not State.DRAINING]
        while staying and not self._fits(staying, need, room, light=want.is_light):
            victim = self._victim(staying)
            if victim is None or not self._evict(victim, wanted, blocked):
                break
            staying.remove(victim)
        room[want.key] = need

    def _evict(self, victim: Instance, wanted: set[Instance], blocked: set[Instance]) -> bool:
        """Drain an instance; if it is still to serve earlier requests, only bar later ones."""
        if victim in wanted or victim.owed:
            blocked.add(victim)
            return False
        self._drain(victim)
        return True

    def _victim(self, staying: list[Instance]) -> Instance | None:
        """Who goes next: one that loads for nobody; then in the order of eviction, idle ones first.

        Busy ones come last, and of those that load for somebody none goes.
        """
        unwanted = next((i for i in staying if self._loads_for_nobody(i)), None)
        ready = sorted((i for i in staying if i.state is State.READY), key=lambda i: i.victim_key())
        return unwanted or next((i for i in ready if i.idle), ready[0] if ready else None)

    def _loads_for_nobody(self, instance: Instance) -> bool:
        """Whether all left who waited for it. It goes on, lest impatient clients never get it."""
        return instance.state is State.STARTING and not anybody_for(instance, self._waiting)

    def _fits(
        self, present: list[Instance], need_bytes: int, room: dict[str, int], *, light: bool
    ) -> bool:
        """Whether one more has room beside these, which are all light, or all are not."""
        taken = sum(instance.memory_bytes for instance in present) + sum(room.values())
        count = len(present) + len(room)
        most = MOST_LIGHT if light else self._max_loaded
        return count < most and taken + need_bytes <= self._budget

    def _queue_length(self, newest: Waiter) -> int:
        return queue_length(self._waiting, newest, self._instances, self._max_loaded, self._budget)

    # ------------------------------------------------------------------------------ transitions

    def _begin(self, waiter: Waiter, slots: int) -> None:
        keep_alive_ns = waiter.keep_alive_ns
        idle_ns = self._limits.keep_alive_ns if keep_alive_ns is None else keep_alive_ns
        instance = Instance(waiter.want, slots, idle_time(idle_ns))
        instance.keep(waiter.take_hold())
        self._instances[waiter.want.key] = instance
        self._run(self._start(instance))

    async def _start(self, instance: Instance) -> None:
        try:
            worker = WorkerProcess(await self.spare.take())
            instance.worker = worker
            if self._closing or instance.stopping:
                raise ShuttingDownError
            info = await load_on(worker, instance)
        except Exception as error:  # noqa: BLE001 - whatever it was, somebody waits to hear it
            await self._load_failed(instance, error)
        else:
            self._ready(instance, worker, info)
        self.spare.prepare()

    def _ready(self, instance: Instance, worker: WorkerProcess, info: EngineInfo) -> None:
        want = instance.want
        worker.lost.add_done_callback(lambda _: self._worker_lost(instance))
        worker.gone.add_done_callback(lambda _: self._worker_gone(instance, worker))
        instance.info = info
        instance.slots = max(1, min(instance.slots, info.slots))
        instance.memory_bytes = info.memory_bytes or instance.memory_bytes
        instance.state = State.READY
        instance.owed = {
            waiter
            for waiter in self._waiting
            if waiter.want.key == want.key and waiter.want.is_served_by(want)
        }
        self._retried_memory.discard(want.key)
        instance.touch()
        self._pump()
        self._rest(instance)

    async def _load_failed(self, instance: Instance, error: Exception) -> None:
        want = instance.want
        if instance.worker is not None:
            await instance.worker.stop()
        if instance.stopping:  # nobody waited for it any more
            self._forget(instance)
            self._pump()
            return
        if isinstance(error, WorkerDiedError):
            self._deaths.record(want, error.detail)
        elif not isinstance(error, CorralError):
            logger.error("%s cannot be loaded", want.name, exc_info=error)
            error = WorkerError(f"no worker could be started: {error}")
        again = await self._make_memory(want.key, error)
        self._forget(instance)
        for waiter in [] if again else list(self._waiting):
            if waiter.want.key == want.key and waiter.want.is_served_by(want):
                self._waiting.remove(waiter)
                waiter.fail(error)
        self._pump()

    async def _make_memory(self, key: str, error: CorralError) -> bool:
        """Out of memory: have all idle models go, so that it can be tried once more."""
        code = getattr(error, "remote_code", error.code)
        idle = [i for i in self._instances.values() if i.idle and not i.want.is_light]
        if code != OutOfMemoryError.code or key in self._retried_memory or not idle:
            self._retried_memory.discard(key)
            return False
        self._retried_memory.add(key)
        for instance in idle:
            self._drain(instance)
        await asyncio.gather(*(i.worker.stop() for i in idle if i.worker is not None))
        return True

    def _give_back(self, instance: Instance) -> None:
        instance.leases -= 1
        if not instance.leases:
            instance.touch()
        self._pump()
        self._rest(instance)

    def _rest(self, instance: Instance) -> None:
        """Nobody uses it: count down, or end it if it is to go."""
        if instance.leases:
            return
        if instance.state is State.DRAINING:
            self._stop(instance)
        elif instance.state is State.READY:
            instance.stop_timer()
            if instance.keep_alive_ns <= 0:
                self._drain(instance)
            elif instance.keep_alive_ns < FOREVER:
                loop = asyncio.get_running_loop()
                delay_s = instance.keep_alive_ns / NS
                instance.timer = loop.call_later(delay_s, self._expired, instance)

    def _expired(self, instance: Instance) -> None:
        instance.timer = None
        if instance.idle:
            self._drain(instance)

    def _drain(self, instance: Instance) -> None:
        """No new leases; it ends with the last one."""
        instance.stop_timer()
        instance.state = State.DRAINING
        if not instance.leases:
            self._stop(instance)

    def _stop(self, instance: Instance) -> None:
        if instance.stopping:
            return
        instance.stopping = True
        if instance.worker is not None:  # else it is about to get one, which ends then
            self._run(instance.worker.stop())

    def _worker_lost(self, instance: Instance) -> None:
        """Its process is over or about to be: nobody gets it any more."""
        instance.died = not instance.stopping and not self._closing
        instance.stop_timer()
        instance.state = State.DRAINING

    def _worker_gone(self, instance: Instance, worker: WorkerProcess) -> None:
        """Its process is over and its memory free."""
        if instance.died:
            self._deaths.record(instance.want, worker.last_words)
        self._forget(instance)
        self._pump()

    def _forget(self, instance: Instance) -> None:
        instance.stop_timer()
        instance.state = State.GONE
        for hold in instance.take_holds():
            give_back(hold, self._waiting)
        if self._instances.get(instance.want.key) is instance:
            del self._instances[instance.want.key]

    def _abandon(self, waiter: Waiter) -> None:
        """Its client left, perhaps just when it was served."""
        if waiter.lease.done() and not waiter.lease.cancelled() and not waiter.lease.exception():
            waiter.lease.result().release()
        waiter.lease.cancel()
        for instance in self._instances.values():
            instance.owed.discard(waiter)
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        self._pump()

    def _run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
