"""Masks of slow constraints, made while the engine computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from corral_kernel.worker.guard import Guard


class Ahead:
    """One thread, begun when it is first needed.

    Args:
        timeout_s: What one mask may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self._guard = Guard(timeout_s)
        self._thread = ThreadPoolExecutor(1, "masks")

    def submit(self, make: Callable[[], bool]) -> Future[bool]:
        """Have a mask made soon. Who needs it before it was begun makes it himself."""
        return self._thread.submit(self._guard.call, make)
