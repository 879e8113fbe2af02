"""The right to run one request on a worker, and the wait for it."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from corral_kernel.contracts import EngineInfo
from corral_kernel.errors import CorralError
from corral_kernel.frames import Encode, Generate
from corral_kernel.scheduler.instance import Instance
from corral_kernel.scheduler.want import Want
from corral_kernel.supervisor import JobStream


class Lease:
    """One slot of a loaded model. Ends by itself with the last job that was submitted on it.

    Args:
        instance: Whose slot it is.
        give_back: The scheduler's.
        warnings: For whoever sent the request, in words.
    """

    def __init__(
        self,
        instance: Instance,
        give_back: Callable[[Instance], None],
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.warnings = warnings
        self._instance = instance
        self._give_back: Callable[[Instance], None] | None = give_back

    @property
    def info(self) -> EngineInfo:
        """What was loaded."""
        assert self._instance.info is not None, "a lease is on a loaded model"
        return self._instance.info

    @property
    def pid(self) -> int:
        """Of the process that has the model."""
        assert self._instance.worker is not None, "a lease is on a loaded model"
        return self._instance.worker.pid

    def submit(self, job: Generate | Encode, *, last: bool = True) -> JobStream:
        """Run a job; one at a time.

        Args:
            job: To run.
            last: The lease ends with it; else it is for the caller to release.

        Raises:
            InvalidRequestError: If the job holds what no message can; the lease is over then.
        """
        assert self._instance.worker is not None, "a lease is on a loaded model"
        try:
            stream = self._instance.worker.submit(job)
        except BaseException:
            self.release()
            raise
        if last:
            stream.on_end(self.release)
        return stream

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self._instance)


class Hold(NamedTuple):
    """What is kept for a model while a worker has it, such as its files."""

    model: str  # digest of its manifest
    let_go: Callable[[], None]  # called once, on the event loop; must not block


class Waiter:
    """A request that waits for a lease.

    Args:
        want: What it needs.
        keep_alive_ns: As the request asks; None: as it was.
        hold: For the instance that will serve it; None: that has one.

    Attributes:
        lease: What it waits for.
        warnings: That come with the lease.
    """

    def __init__(self, want: Want, keep_alive_ns: int | None, hold: Hold | None = None) -> None:
        self.want = want
        self.hold = hold
        self.warnings: tuple[str, ...] = ()
        self.keep_alive_ns = keep_alive_ns
        self.lease: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()

    def take_hold(self) -> Hold | None:
        """Take its hold over."""
        hold, self.hold = self.hold, None
        return hold

    def fail(self, error: CorralError) -> None:
        """Let it wait no longer; one that is served or gone already is left alone."""
        if not self.lease.done():
            self.lease.set_exception(error)
