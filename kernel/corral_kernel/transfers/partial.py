"""A blob that is not whole yet: its bytes so far, and which of them are there.

Beside the blob's place lie two files: `sha256-HEX.partial` holds the bytes where they belong, and
`sha256-HEX.parts` tells how far each part of it has come. A byte is counted after it is written, so
after a kill nothing is believed to be there that is not. The first file is locked while somebody
writes to it. Ollama's own partial files have other names and another form; they are left alone.
"""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from corral_kernel.store.blobs import Blobs
from corral_kernel.store.files import FILE_MODE, FOLDER_MODE, store_errors, sync_folder
from corral_kernel.store.prune import PARTIAL_SUFFIX, PARTS_SUFFIX

PART_BYTES: Final = 16 << 20
_HEAD: Final = struct.Struct("<8sQQ")  # what it is, bytes of a part, bytes of the blob
_MAGIC: Final = b"parts v1"
_COUNT: Final = struct.Struct("<Q")
_HASH_BYTES: Final = 1 << 20


class Partial:
    """The unfinished file of one blob. For one thread at a time, except `hash`.

    Args:
        blobs: Where the blob is to be.
        digest: Of the whole.
        size_bytes: Of the whole; more than 0.
        part_bytes: Size of all parts but the last.
    """

    def __init__(
        self, blobs: Blobs, digest: str, size_bytes: int, part_bytes: int = PART_BYTES
    ) -> None:
        self._final = blobs.path(digest)
        self._data_path, self._parts_path = paths(blobs, digest)
        self.size_bytes = size_bytes
        self.part_bytes = part_bytes
        self.counts: list[int] = []  # bytes that are there of each part, from its beginning
        self._data = self._parts = -1

    # --- opening and closing ---------------------------------------------------------------------

    def open(self) -> bool:
        """Take the file over, with what is there of it; False: somebody else writes to it.

        Raises:
            StoreError: If it cannot be used.
        """
        with store_errors(f"opening {self._data_path.name}"):
            self._final.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            if not self._lock():
                return False
            self._parts = _open(self._parts_path)
            if not self._read_counts():
                self._begin()
        return True

    def _lock(self) -> bool:
        """Open and lock the data; who held it before may have renamed or removed it meanwhile."""
        self._data = _open(self._data_path)
        try:
            fcntl.flock(self._data, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = self._data_path.stat()
        except (BlockingIOError, FileNotFoundError):
            there = None
        mine = os.fstat(self._data)
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            self.close()
            return False
        return True

    def close(self) -> None:
        """Let go of the file, which stays for the next try; may be called twice."""
        for descriptor in (self._data, self._parts):
            if descriptor >= 0:
                os.close(descriptor)
        self._data = self._parts = -1

    def _read_counts(self) -> bool:
        number = len(range(0, self.size_bytes, self.part_bytes))
        length = _HEAD.size + number * _COUNT.size
        raw = os.pread(self._parts, length + 1, 0)
        expected = _HEAD.pack(_MAGIC, self.part_bytes, self.size_bytes)
        if len(raw) != length or raw[: _HEAD.size] != expected:
            return False
        counts = [count for (count,) in _COUNT.iter_unpack(raw[_HEAD.size :])]
        written = os.fstat(self._data).st_size
        for part, count in enumerate(counts):
            start, end = self.span(part)
            if count > end - start or (count and start + count > written):
                return False
        self.counts = counts
        return True

    def _begin(self) -> None:
        self.counts = [0] * len(range(0, self.size_bytes, self.part_bytes))
        os.ftruncate(self._data, 0)
        os.ftruncate(self._parts, 0)
        head = _HEAD.pack(_MAGIC, self.part_bytes, self.size_bytes)
        _write_at(self._parts, head + bytes(_COUNT.size * len(self.counts)), 0)

    # --- what is there ---------------------------------------------------------------------------

    @property
    def completed_bytes(self) -> int:
        """All bytes that are there."""
        return sum(self.counts)

    def span(self, part: int) -> tuple[int, int]:
        """Where a part begins, and where it ends."""
        start = part * self.part_bytes
        return start, min(start + self.part_bytes, self.size_bytes)

    def missing(self) -> Iterator[int]:
        """Give the parts that are not whole, in order."""
        for part, count in enumerate(self.counts):
            start, end = self.span(part)
            if count < end - start:
                yield part

    def prefix_bytes(self, known: int) -> int:
        """How many bytes are there from the beginning without a gap.

        Args:
            known: That so many are is known already.
        """
        part = known // self.part_bytes
        while part < len(self.counts):
            start, end = self.span(part)
            if start + self.counts[part] < end:
                return start + self.counts[part]
            part += 1
        return self.size_bytes

    # --- changing it -----------------------------------------------------------------------------

    def write(self, position: int, data: bytes | bytearray) -> None:
        """Put bytes in their place, where those of the part before them are there already.

        Raises:
            StoreError: If they cannot be stored, such as when the disk is full.
        """
        end = position + len(data)
        with store_errors(f"writing {self._data_path.name} at byte {position}"):
            _write_at(self._data, data, position)
            for part in range(position // self.part_bytes, -(-end // self.part_bytes)):
                start, limit = self.span(part)
                count = min(end, limit) - start
                _write_at(self._parts, _COUNT.pack(count), _HEAD.size + part * _COUNT.size)
                self.counts[part] = count

    def hash(self, hasher: Any, start: int, end: int) -> None:
        """Feed bytes that are there to a hash.

        Raises:
            StoreError: If they cannot be read.
        """
        with store_errors(f"reading {self._data_path.name} at byte {start}"):
            while start < end:
                piece = os.pread(self._data, min(_HASH_BYTES, end - start), start)
                if not piece:
                    raise OSError(f"it ends at byte {start}")
                hasher.update(piece)
                start += len(piece)

    def finish(self) -> None:
        """Make it the blob; its digest is right.

        Raises:
            StoreError: If it cannot be stored.
        """
        with store_errors(f"storing {self._final.name}"):
            os.ftruncate(self._data, self.size_bytes)
            os.fsync(self._data)
            self._data_path.replace(self._final)
            sync_folder(self._final.parent)
            self._parts_path.unlink(missing_ok=True)
        self.close()

    def restart(self) -> None:
        """Forget all that is there.

        Raises:
            StoreError: If that cannot be noted.
        """
        with store_errors(f"emptying {self._data_path.name}"):
            self._begin()

    def discard(self) -> None:
        """Remove both files: what is there is wrong."""
        for path in (self._parts_path, self._data_path):
            with contextlib.suppress(OSError):
                path.unlink()
        self.close()


def paths(blobs: Blobs, digest: str) -> tuple[Path, Path]:
    """Where the bytes of an unfinished blob are, and the tale of its parts."""
    final = blobs.path(digest)
    return final.with_name(final.name + PARTIAL_SUFFIX), final.with_name(final.name + PARTS_SUFFIX)


def bytes_on_disk(blobs: Blobs, digest: str) -> int:
    """What the unfinished file of a blob takes already."""
    try:
        return paths(blobs, digest)[0].stat().st_blocks * 512
    except OSError:
        return 0


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)


def _write_at(descriptor: int, data: bytes | bytearray, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written
