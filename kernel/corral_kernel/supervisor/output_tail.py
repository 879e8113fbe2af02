"""What a worker's native code prints behind Python's back."""

import asyncio
import logging
import time

logger = logging.getLogger(__name__)

TAIL_BYTES = 64 << 10
LOGGED_BYTES_PER_S = 64 << 10
LINE_CHARACTERS = 400


class OutputTail(asyncio.Protocol):
    """Always reads; keeps the end, logs some of the rest, and drops what is too much.

    Args:
        pid: For the log.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._tail = bytearray()
        self._second = 0
        self._logged = 0
        self._transport: asyncio.BaseTransport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is open."""
        self._transport = transport

    def close(self) -> None:
        """Read no more, even if something that the worker started still holds the other end."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what was printed."""
        self._tail += data[-TAIL_BYTES:]
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]
        if logger.isEnabledFor(logging.DEBUG):
            self._log(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker and all that it started are gone."""
        del exc
        if not self.closed.done():
            self.closed.set_result(None)

    def last_line(self) -> str:
        """The last line that says something: often why a process ended."""
        lines = bytes(self._tail[-TAIL_BYTES:]).decode("utf-8", "replace").splitlines()
        said = (line.strip() for line in reversed(lines))
        return next((line[:LINE_CHARACTERS] for line in said if line), "")

    def _log(self, data: bytes) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged < LOGGED_BYTES_PER_S:
            self._logged += len(data)
            text = data[:LOGGED_BYTES_PER_S].decode("utf-8", "replace").rstrip()
            logger.debug("worker %d: %s", self._pid, text)
