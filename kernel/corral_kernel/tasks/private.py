"""A model that is loaded for one task alone."""

import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from corral_kernel.calls import CompletionCall
from corral_kernel.contracts import EngineInfo
from corral_kernel.errors import UnsupportedError
from corral_kernel.frames import Generate, JobEvent
from corral_kernel.planning import Plan
from corral_kernel.scheduler import Lease

GetLease = Callable[[CompletionCall, Plan], Awaitable[tuple[Lease, int]]]
"""Waits for a worker that has a model; gives the time that took, in nanoseconds, too."""


class PrivateModel:
    """A model in a worker that serves nobody else, and goes with the task: `async with`.

    It counts as a loaded model: idle ones go for it, and it waits for its room like any other.

    Args:
        call: Names the model; the options to load it with.
        plan: What that comes to.
        get_lease: The kernel's.

    Attributes:
        info: What was loaded.
        load_ns: Time until it was there.
        warnings: For the client.
    """

    info: EngineInfo
    load_ns: int
    warnings: tuple[str, ...]

    def __init__(self, call: CompletionCall, plan: Plan, get_lease: GetLease) -> None:
        key = f"task {secrets.token_hex(8)}: {plan.want.key}"
        want = msgspec.structs.replace(plan.want, key=key, slots=1)
        self._call = msgspec.structs.replace(call, keep_alive_ns=0)
        self._plan = msgspec.structs.replace(plan, want=want)
        self._get_lease = get_lease
        self._lease: Lease | None = None

    async def __aenter__(self) -> Self:
        """Wait until it is loaded.

        Raises:
            CorralError: Why it cannot be.
        """
        plan = self._plan
        lease, self.load_ns = await self._get_lease(self._call, plan)
        self._lease, self.info = lease, lease.info
        self.warnings = (*plan.warnings, *plan.told_by(lease.info))
        if plan.adapters and "adapters" not in lease.info.capabilities:
            lease.release()
            raise UnsupportedError(f"backend {plan.want.claim.backend!r} applies no adapters")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of it: its process ends, whatever still runs in it."""
        if self._lease is not None:
            self._lease.release()

    def memory_bytes(self) -> int:
        """Give what it takes now, in bytes.

        What is resident of its process, the same for every engine; what the engine says where
        that is more: a graphics card's memory is no process's. Where neither is known, what it
        was estimated to take.
        """
        assert self._lease is not None, "it is to be entered first"
        told = self.info.memory_bytes
        return max(told, _resident_bytes(self._lease.pid)) or self._plan.want.memory_bytes(1)

    async def run(self, job: Generate) -> AsyncGenerator[JobEvent, None]:
        """Run a job; one at a time. To close the iterator cancels it.

        Raises:
            CorralError: Why it failed.
        """
        assert self._lease is not None, "it is to be entered first"
        stream = self._lease.submit(job, last=False)
        try:
            async for event in stream:
                yield event
        finally:
            stream.cancel()


def _resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM, mapped files too; 0: the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
