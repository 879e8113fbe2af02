"""Content-addressed files: `blobs/sha256-HEX` holds the bytes whose digest is `sha256:HEX`.

blobs.path(digest)  blobs.size(digest)  digest in blobs     # InvalidDigestError if it is none
writer = blobs.writer()             # streams to disk; slow calls: use a thread from asyncio
writer.write(chunk)
writer.finish("sha256:…")           # verify, sync, rename; gives the digest
writer.abort()                      # or use it as a context manager, which aborts if unfinished
blobs.add(data)                     # a small blob at once; gives (digest, whether it was new)
blobs.link(path, digest)            # take over a file from elsewhere: hard link or verified copy
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from corral_kernel.errors import BlobMismatchError, BlobNotFoundError, StoreError
from corral_kernel.names import blob_filename, parse_digest
from corral_kernel.store.files import (
    FILE_MODE,
    FOLDER_MODE,
    open_for_writing,
    open_regular,
    store_errors,
    sync_folder,
    write_all,
)
from corral_kernel.store.hashing import hashed

_UNFINISHED_PREFIX = "sha256-"
_CHUNK_BYTES = 1 << 20
_NOWHERE = frozenset(
    {errno.ENOENT, errno.ELOOP, errno.ENXIO}
)  # no file, a link to itself, a device


def digest_of(data: bytes) -> str:
    """Compute the digest of some bytes: `sha256:hex`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class BlobWriter:
    """Streams one blob to disk. For one thread at a time; not growing with the blob's size."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        with store_errors("starting a blob"):
            folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            self._descriptor, self._unfinished = open_for_writing(folder, _UNFINISHED_PREFIX)
        self._open = True

    def write(self, chunk: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            StoreError: If they cannot be stored, such as when the disk is full. Nothing is left.
        """
        try:
            with store_errors(f"writing a blob at byte {self.size_bytes}"):
                write_all(self._descriptor, chunk)
        except StoreError:
            self.abort()
            raise
        self._hash.update(chunk)
        self.size_bytes += len(chunk)

    @property
    def digest(self) -> str:
        """Of what is written by now."""
        return f"sha256:{self._hash.hexdigest()}"

    def finish(self, expected: str | None = None) -> str:
        """Put the blob in its place, under the digest of what was written.

        Args:
            expected: The digest that was announced, as it was spelled. It is compared as text.

        Returns:
            The true digest.

        Raises:
            BlobMismatchError: If the digest is another; the content is kept under its true one.
            StoreError: If it cannot be stored.
        """
        digest = self.digest
        try:
            with store_errors(f"storing the blob {digest}"):
                self._store(self._folder / blob_filename(digest))
        finally:
            self.abort()
        if expected is not None and expected != digest:
            raise BlobMismatchError(f'digest mismatch, expected "{expected}", got "{digest}"')
        return digest

    def abort(self) -> None:
        """Leave nothing behind; does nothing after `finish`."""
        if self._open:
            self._open = False
            self._unfinished.unlink(missing_ok=True)
            os.close(self._descriptor)

    def _store(self, final: Path) -> None:
        if _size(final) == self.size_bytes:
            _mark_used(final)
            return
        os.fsync(self._descriptor)
        self._unfinished.replace(final)
        sync_folder(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()


def _size(path: Path) -> int | None:
    """Bytes of a file; `None` if there is none, or what is no file."""
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        raise
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _mark_used(path: Path) -> None:
    """Move the time by which `used_at` tells how long nobody needed a file."""
    if _size(path) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    status = path.stat()
    if _is_shared(status):  # the modification time belongs to its other names too
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        os.utime(path)


def used_at(status: os.stat_result) -> float:
    """Tell when a file of the store was written or last marked as used, in Unix seconds.

    Of one that is linked from elsewhere, such as from a Python package, that is the time at which
    anything of it was changed: marking it must not make the package's file look new.
    """
    return status.st_ctime if _is_shared(status) else status.st_mtime


def _is_shared(status: os.stat_result) -> bool:
    return status.st_nlink > 1


class Blobs:
    """The blobs of one store. Any number of threads and processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where a blob lies, or would lie.

        Raises:
            InvalidDigestError: If `digest` is no digest.
        """
        return self.folder / blob_filename(digest)

    def __contains__(self, digest: str) -> bool:
        return _size(self.path(digest)) is not None

    def size(self, digest: str) -> int:
        """Bytes of a blob.

        Raises:
            BlobNotFoundError: If it is not in the store.
        """
        size = _size(self.path(digest))
        if size is None:
            raise BlobNotFoundError(f"blob {parse_digest(digest)} is not in the store")
        return size

    def writer(self) -> BlobWriter:
        """Begin a new blob."""
        return BlobWriter(self.folder)

    def add(self, data: bytes) -> tuple[str, bool]:
        """Store a small blob; one that is there is only marked as used.

        Returns:
            Its digest, and whether it was not there before.
        """
        digest = digest_of(data)
        if self.touch(digest):
            return digest, False
        with self.writer() as writer:
            writer.write(data)
            return writer.finish(digest), True

    def touch(self, digest: str) -> bool:
        """Mark a blob as used just now, so that no clean-up takes it; False if it is not there."""
        with store_errors(f"marking the blob {digest} as used"):
            try:
                _mark_used(self.path(digest))
            except FileNotFoundError:
                return False
            except PermissionError:
                # Linked from a file of another user: it can be read, but not marked.
                return True
        return True

    def link(self, source: Path, digest: str) -> bool:
        """Take over a file whose digest the caller has verified, without moving it.

        A hard link where the file systems allow it, else a copy that is verified again.

        Returns:
            Whether the blob was not there before.

        Raises:
            BlobMismatchError: If a copy does not have the digest.
            StoreError: If it cannot be stored.
        """
        if self.touch(digest):
            return False
        final = self.path(digest)
        with store_errors(f"linking {source} into the store"):
            self.folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            try:
                with open_regular(source):  # a pipe or a device could be linked as well
                    final.hardlink_to(source.resolve())
            except FileExistsError:
                return False
            except OSError:
                self._copy(source, parse_digest(digest))
            else:
                sync_folder(self.folder)
        return True

    def take(
        self, path: Path, pin: Callable[[Iterable[str]], None]
    ) -> Generator[int, None, tuple[str, bool]]:
        """Move a file into the store, under the digest of what is in it.

        Gives the bytes that are read so far.

        Args:
            path: Of a file that nobody writes to any more, on any file system.
            pin: Told the digest before the blob is there.

        Returns:
            The digest, and whether the blob was not there before.

        Raises:
            StoreError: If it is no file, or cannot be stored.
        """
        with store_errors(f"storing {path.name}"):
            # Neither through a link nor blocking: strangers' code has put it there.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            with (
                open(path, "rb", buffering=0, opener=lambda p, _: os.open(p, flags)) as file,
                ThreadPoolExecutor(1, "sync") as syncing,
            ):
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise StoreError(f"{path.name} is no file")
                os.fchmod(file.fileno(), FILE_MODE)
                synced = syncing.submit(os.fsync, file.fileno())  # while it is read
                digest = yield from hashed(file)
                pin([digest])
                if self.touch(digest):
                    return digest, False
                synced.result()
            self.folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            try:
                path.rename(self.path(digest))
            except OSError:  # the blobs are on another file system
                self._copy(path, digest)
            else:
                sync_folder(self.folder)
        return digest, True

    def _copy(self, source: Path, digest: str) -> None:
        with open_regular(source) as stream, self.writer() as writer:
            while chunk := stream.read(_CHUNK_BYTES):
                writer.write(chunk)
            writer.finish(digest)

    def remove(self, digest: str) -> bool:
        """Delete a blob; False if it was not there."""
        with store_errors(f"deleting the blob {digest}"):
            try:
                self.path(digest).unlink()
            except FileNotFoundError:
                return False
        return True

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """All files of the folder, blobs and others."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            yield from (entry for entry in entries if not entry.is_dir(follow_symlinks=False))
