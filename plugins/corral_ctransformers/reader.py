"""A file read from its beginning to its end, each step checked against what is left of it."""

import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from corral_kernel.errors import LoadError


class Reader:
    """Reads little-endian numbers and bytes.

    Args:
        path: Of the file.

    Raises:
        LoadError: Of each method, if what it is to read runs over the file's end.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size = path.stat().st_size
        self.position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def left(self) -> int:
        """Bytes that follow."""
        return self.size - self.position

    def take(self, count: int, what: str) -> bytes:
        """The next bytes."""
        self._check(count, what)
        data = self._file.read(count)
        if len(data) != count:
            raise LoadError(f"the file became shorter while it was read, at byte {self.position}")
        self.position += count
        return data

    def integers(self, count: int, what: str) -> tuple[int, ...]:
        """The next signed 32-bit numbers."""
        return struct.unpack(f"<{count}i", self.take(4 * count, what))

    def float32(self, what: str) -> float:
        """The next 32-bit float."""
        (value,) = struct.unpack("<f", self.take(4, what))
        return float(value)

    def skip(self, count: int, what: str) -> None:
        """Pass over bytes."""
        self._check(count, what)
        self._file.seek(count, 1)
        self.position += count

    def align(self, to: int, what: str) -> None:
        """Pass over the bytes up to the next multiple of a number."""
        self.skip(-self.position % to, what)

    def _check(self, count: int, what: str) -> None:
        if count > self.left:
            raise LoadError(
                f"damaged: {what} at byte {self.position} takes {count} bytes; "
                f"only {self.left} are left"
            )
