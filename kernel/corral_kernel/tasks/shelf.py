"""What a task keeps for a while that is too much for memory."""

import os
import tempfile
from typing import IO, Self

from corral_kernel.errors import StoreError
from corral_kernel.threads import to_its_end


class Shelf:
    """Bytes by number, in a file that has no name and goes with this process."""

    def __init__(self) -> None:
        self._places: list[tuple[int, int]] = []
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        try:
            self._file = tempfile.TemporaryFile(prefix="corral-compare-")
        except OSError as error:
            raise StoreError(f"no temporary file can be made: {error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    async def put(self, data: bytes) -> None:
        """Keep the next ones."""
        start = self._places[-1][1] if self._places else 0
        self._places.append((start, start + len(data)))
        await to_its_end(self._write, data)

    async def get(self, number: int) -> bytes:
        """Give those that were kept so many places after the first."""
        return await to_its_end(self._read, *self._places[number])

    def _write(self, data: bytes) -> None:
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise StoreError(f"the temporary file cannot be written: {error}") from None

    def _read(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(stop - start)
