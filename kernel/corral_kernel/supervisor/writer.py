"""Messages to a process: long ones in pieces, between which others pass."""

import asyncio
from collections.abc import Iterator

from corral_kernel import frames, framing
from corral_kernel.errors import InvalidRequestError


class Writer:
    """Writes to a transport, whose flow control the owner passes on."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None  # None: not open yet, or closed
        self._room = asyncio.Event()
        self._room.set()
        self._sending: dict[int, asyncio.Task[None]] = {}  # the rest of a long message, by job
        self._next_stream = 0

    def open(self, transport: asyncio.Transport) -> None:
        """Begin to write."""
        self._transport = transport

    def close(self) -> None:
        """Write nothing any more; what is under way ends."""
        self._transport = None
        self._room.set()

    def pause(self) -> None:
        """The transport's buffer is full."""
        self._room.clear()

    def resume(self) -> None:
        """It has room again."""
        self._room.set()

    def send(self, message: frames.Frame, job_id: int = 0) -> None:
        """Write a message: all of it, or of a long one the first piece and soon the rest.

        Raises:
            InvalidRequestError: If it holds what no message can.
            FrameError: If it is too long.
        """
        if self._transport is None:
            return
        self._next_stream += 1
        pieces = framing.to_frames(_encode(message), self._next_stream)
        self._transport.write(next(pieces))
        second = next(pieces, None)
        if second is not None:
            rest = self._send_rest(second, pieces)
            task = asyncio.get_running_loop().create_task(rest)
            self._sending[job_id] = task
            task.add_done_callback(lambda _: self._sending.pop(job_id))

    def send_after(self, job_id: int, message: frames.Frame) -> None:
        """Write a message once all of a job's own is written."""
        task = self._sending.get(job_id)
        if task is None:
            self.send(message)
        else:
            task.add_done_callback(lambda _: self.send(message))

    async def _send_rest(self, piece: bytes, more: Iterator[bytes]) -> None:
        """Write on as the other end reads, so that short messages get in between."""
        while piece:
            await asyncio.sleep(0)
            await self._room.wait()
            if self._transport is None:
                return
            self._transport.write(piece)
            piece = next(more, b"")


def _encode(message: frames.Frame) -> bytes:
    try:
        return frames.encode(message)
    except (OverflowError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"the request holds what cannot be passed on: {error}") from None
