"""Bounded reading of a file that may lie about every length it states.

`pread` into a window of fixed size, not a memory map: a mapped file that somebody truncates while
it is read kills the process.
"""

import os
import struct
from typing import Any

from corral_kernel.errors import InvalidModelError

_WINDOW_BYTES = 1 << 20


class Window:
    """A position in the beginning of a file; every step is checked against where that ends.

    Args:
        descriptor: An open file; its own position is neither used nor moved.
        end: Nothing from this offset on is read: the size of the file, or less.
    """

    def __init__(self, descriptor: int, end: int) -> None:
        self._descriptor = descriptor
        self._end = end
        self._bytes = b""
        self._start = 0  # of the window in the file
        self._at = 0  # within the window

    @property
    def position(self) -> int:
        """Offset in the file of the next byte."""
        return self._start + self._at

    @property
    def left(self) -> int:
        """Bytes from here to the end."""
        return self._end - self.position

    def seek(self, position: int) -> None:
        """Go to an offset in the file."""
        if not 0 <= position <= self._end:
            raise self._ends(position)
        if self._start <= position <= self._start + len(self._bytes):
            self._at = position - self._start
        else:
            self._bytes, self._start, self._at = b"", position, 0

    def take(self, size: int) -> bytes:
        """Read `size` bytes; the caller has bounded `size`."""
        self._need(size)
        taken = self._bytes[self._at : self._at + size]
        self._at += size
        return taken

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        """Read the values of one `struct`."""
        self._need(form.size)
        values = form.unpack_from(self._bytes, self._at)
        self._at += form.size
        return values

    def skip(self, size: int) -> None:
        """Go on by `size` bytes without reading them."""
        if size > self.left:
            raise self._ends(self.position + size)
        self.seek(self.position + size)

    def skip_texts(self, count: int, length: struct.Struct) -> None:
        """Go on behind `count` texts, each with its length before it.

        This is the hot loop of reading a head: a vocabulary has up to half a million texts.
        """
        unpack, size = length.unpack_from, length.size
        while count:
            self._need(size)
            data, at = self._bytes, self._at
            last = len(data) - size
            while count and at <= last:
                at += size + unpack(data, at)[0]
                count -= 1
            self._at = 0
            start, self._start, self._bytes = self._start, 0, b""
            self.seek(start + at)

    def _need(self, size: int) -> None:
        if self._at + size <= len(self._bytes):
            return
        if size > self.left:
            raise self._ends(self.position + size)
        start = self.position
        data = _pread_all(self._descriptor, min(max(size, _WINDOW_BYTES), self._end - start), start)
        self._bytes, self._start, self._at = data, start, 0
        if len(data) < size:
            raise self._ends(start + size)

    def _ends(self, wanted: int) -> InvalidModelError:
        return InvalidModelError(
            f"the head of the file goes on to byte {wanted}, but it must end by byte {self._end}: "
            "the file is truncated or damaged; fetch it again"
        )


def _pread_all(descriptor: int, size: int, offset: int) -> bytes:
    pieces = []
    while size and (piece := os.pread(descriptor, size, offset)):
        pieces.append(piece)
        size -= len(piece)
        offset += len(piece)
    return b"".join(pieces)
