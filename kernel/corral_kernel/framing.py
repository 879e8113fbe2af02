"""How messages between server and worker are cut into frames, and put together again.

A frame is a little-endian uint32 length and that many bytes, 1 MiB at most. Its first byte tells
its kind: a whole message, or a piece of a longer one (with a uint32 stream number).
"""

import struct
from collections.abc import Iterator

from corral_kernel.errors import FrameError

FRAME_BYTES = 1 << 20
MESSAGE_BYTES = 1 << 31
"""Bounds of one frame and of one message put together from frames."""
STREAM_NUMBERS = 1 << 32
STREAMS = 256
"""Messages that may be under way in pieces at once."""

_WHOLE, _PIECE, _LAST = 0, 1, 2
_HEAD = struct.Struct("<IB")
_STREAM = struct.Struct("<I")


def to_frames(message: bytes, stream: int) -> Iterator[bytes]:
    """Cut an encoded message into frames; pieces of other streams may stand between them.

    Raises:
        FrameError: If it is over `MESSAGE_BYTES`.
    """
    if len(message) < FRAME_BYTES:
        yield _HEAD.pack(len(message) + 1, _WHOLE) + message
        return
    if len(message) > MESSAGE_BYTES:
        raise FrameError(f"a message of {len(message)} bytes is over the {MESSAGE_BYTES} allowed")
    number = _STREAM.pack(stream % STREAM_NUMBERS)
    room = FRAME_BYTES - 1 - _STREAM.size
    for start in range(0, len(message), room):
        piece = message[start : start + room]
        kind = _LAST if start + room >= len(message) else _PIECE
        yield (_HEAD.pack(len(piece) + 1 + _STREAM.size, kind) + number + piece)


class Assembler:
    """Bytes as they come in; messages as they are complete. Bounded by `limit_bytes` in all."""

    def __init__(self, limit_bytes: int = MESSAGE_BYTES) -> None:
        self._buffer = bytearray()
        self._streams: dict[int, bytearray] = {}
        self._limit_bytes = limit_bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; give the messages that they complete.

        Raises:
            FrameError: On anything that is no frame, or over the bounds.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _HEAD.size:
                length, kind = _HEAD.unpack_from(buffer, start)
                if not 1 <= length <= FRAME_BYTES or kind > _LAST:
                    raise FrameError(f"a frame of {length} bytes and kind {kind}")
                end = start + _HEAD.size - 1 + length
                if len(buffer) < end:
                    break
                body = bytes(memoryview(buffer)[start + _HEAD.size : end])
                start = end
                if kind == _WHOLE:
                    yield body
                elif (whole := self._join(body, last=kind == _LAST)) is not None:
                    yield whole
        finally:
            del buffer[:start]  # no message comes twice, even if its taker raised

    def _join(self, body: bytes, *, last: bool) -> bytes | None:
        if len(body) < _STREAM.size:
            raise FrameError("a piece without its stream number")
        (stream,) = _STREAM.unpack_from(body)
        joined = self._streams.setdefault(stream, bytearray())
        joined += memoryview(body)[_STREAM.size :]
        if len(self._streams) > STREAMS:
            raise FrameError(f"over {STREAMS} messages are under way at once")
        if sum(map(len, self._streams.values())) > self._limit_bytes:
            raise FrameError(f"messages under way are over {self._limit_bytes} bytes")
        return bytes(self._streams.pop(stream)) if last else None
