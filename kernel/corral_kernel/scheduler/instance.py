"""One loaded model, from its worker's start to its end."""

import enum
import time
from typing import TYPE_CHECKING

from corral_kernel.contracts import EngineInfo
from corral_kernel.durations import FOREVER
from corral_kernel.scheduler.limits import NS
from corral_kernel.scheduler.want import Want
from corral_kernel.supervisor import WorkerProcess

if TYPE_CHECKING:
    import asyncio

    from corral_kernel.scheduler.lease import Hold, Waiter


class State(enum.Enum):
    """Where an instance is in its life. A draining one takes no new lease."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


def idle_time(keep_alive_ns: int) -> int:
    """How long an instance stays when idle, in nanoseconds; a negative wish is `FOREVER`."""
    return FOREVER if keep_alive_ns < 0 else keep_alive_ns


class Instance:
    """State of one worker; changed by the scheduler alone.

    Attributes:
        want: What it was loaded for.
        models: What it is used for, by name: of a light one all that came so far.
        slots: Leases at once.
        leases: Given out now.
        owed: Requests that waited when it became ready: it is no victim before they are served.
        keep_alive_ns: How long it stays when idle; `FOREVER`.
        memory_bytes: Estimated until it is loaded, then what the engine says.
        died: Whether its worker ended by itself.
        stopping: Whether its worker is being ended, or will be as soon as it has one.
        reloaded_for: The first request that needs it loaded with other options.
        holds: What is kept until its worker is gone, by the digests of models.
    """

    def __init__(self, want: Want, slots: int, keep_alive_ns: int) -> None:
        self.want = want
        self.models = {want.name: want.model}
        self.slots = slots
        self.keep_alive_ns = keep_alive_ns
        self.state = State.STARTING
        self.worker: WorkerProcess | None = None
        self.info: EngineInfo | None = None
        self.leases = 0
        self.owed: set[Waiter] = set()
        self.memory_bytes = want.memory_bytes(slots)
        self.used_at = time.monotonic()
        self.expires_at: float | None = None  # wall clock, seconds since 1970
        self.timer: asyncio.TimerHandle | None = None
        self.stopping = False
        self.died = False
        self.reloaded_for: Waiter | None = None
        self.holds: dict[str, Hold] = {}

    @property
    def usable(self) -> bool:
        """Whether a lease on it can be given: it is ready, and its worker there."""
        lost = self.worker is None or self.worker.lost.done()
        return self.state is State.READY and not lost

    @property
    def idle(self) -> bool:
        """Whether it is ready and nobody uses it."""
        return self.state is State.READY and not self.leases

    def keep(self, hold: "Hold | None") -> None:
        """Take over what is kept for a model; a second time for the same one it is let go."""
        if hold is not None and self.holds.setdefault(hold.model, hold) is not hold:
            hold.let_go()

    def take_holds(self) -> "list[Hold]":
        """Take over all that is kept: its worker is gone."""
        holds = list(self.holds.values())
        self.holds.clear()
        return holds

    def touch(self) -> None:
        """Begin or go on a period of use or idleness: when it would expire, from now."""
        self.used_at = time.monotonic()
        forever = self.keep_alive_ns >= FOREVER
        self.expires_at = None if forever else time.time() + self.keep_alive_ns / NS

    def stop_timer(self) -> None:
        """No expiry is under way."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def victim_key(self) -> tuple[int, float]:
        """Order in which instances are evicted: shortest keep-alive, then least recently used."""
        return (self.keep_alive_ns, self.used_at)
