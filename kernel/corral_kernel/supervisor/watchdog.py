"""Whether a worker says something as often as it owes to."""

import asyncio
from collections.abc import Callable

LOOKS = 4
"""Looks in each timeout."""

NEVER = float("inf")


class Watchdog:
    """Calls out when nothing was heard for a while.

    It counts its own looks instead of reading the clock: between two of them the event loop has
    read what there was, however long this process itself was held up.

    Args:
        overdue: Called once, after the timeout (in seconds) that it is given.
    """

    def __init__(self, overdue: Callable[[float], None]) -> None:
        self._overdue = overdue
        self._timeout_s = NEVER
        self._silent_looks = 0
        self._timer: asyncio.TimerHandle | None = None

    def owe(self, timeout_s: float) -> None:
        """From now on something is to be heard in each `timeout_s`; infinite: nothing is."""
        self.stop()
        self._timeout_s = timeout_s
        self._silent_looks = 0
        self._wait()

    def heard(self) -> None:
        """Something was."""
        self._silent_looks = 0

    def stop(self) -> None:
        """Nothing is owed any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        if self._timeout_s < NEVER:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timeout_s / LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        self._silent_looks += 1
        if self._silent_looks > LOOKS:
            self._overdue(self._timeout_s)
        else:
            self._wait()
