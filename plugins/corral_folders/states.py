"""Digests of files: those that are known, and a thread that finds the others out.

A file is known by its state (path, size, times) until its digest is; then the digest is kept in the
server's cache. The thread reads one file after the other, the small ones first, with the lowest
priority and without filling the system's cache with what nobody asked for.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from corral_folders.recipes import Part
from corral_folders.walk import File
from corral_kernel.gguf import GgufHeader
from corral_kernel.store.cache import DerivedCache, file_key

T = TypeVar("T")
_LOWEST: Final = 19
_DROP_BYTES: Final = 64 << 20
_log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    size_bytes: int
    modified_ns: int
    inode: int
    key: str
    digest: str


class States:
    """What is known of files. Any number of threads may use it.

    Args:
        cache: Of the server.
        found: Called when a digest was found out.
    """

    def __init__(self, cache: DerivedCache, found: Callable[[], None]) -> None:
        self._cache = cache
        self._found = found
        self._seen: dict[Path, _Seen] = {}
        self._facts: dict[Path, tuple[str, Any]] = {}  # with the state that they are of
        self._wanted: dict[Path, int] = {}  # with the size
        self._failed: set[str] = set()  # states that could not be read to the end
        self._lock = threading.Lock()
        self._hashing = threading.Lock()  # one file at a time, whoever wants it
        self._thread: threading.Thread | None = None

    def part(self, file: File, media_type: str, *, name: str = "", hashed: bool = True) -> Part:
        """Describe a file as a part of a model; `hashed`: its digest is to be found out."""
        status = file.status
        seen = self._seen.get(file.path)
        state = (status.st_size, status.st_mtime_ns, status.st_ino)
        if seen is None or seen[:3] != state:
            seen = _Seen(*state, file_key(file.path), file.digest)
        if not seen.digest:
            seen = seen._replace(digest=self._cache.known_digest(file.path) or "")
        self._seen[file.path] = seen
        if hashed and not seen.digest and seen.key not in self._failed:
            with self._lock:
                self._wanted[file.path] = status.st_size
        return Part(
            media_type=media_type,
            path=file.path,
            size_bytes=status.st_size,
            state=seen.key,
            digest=seen.digest,
            name=name,
        )

    def facts(self, file: File, read: Callable[[GgufHeader], T]) -> T:
        """Give what is wanted of the head of a GGUF file, which is read once for each state.

        Args:
            file: The file.
            read: Takes it from the head; always the same function.

        Raises:
            InvalidModelError: If it has no sound head.
            OSError: If it cannot be read.
        """
        state = self.part(file, "", hashed=False).state
        known = self._facts.get(file.path)
        if known is None or known[0] != state:
            known = state, read(self._cache.header(file.path, state))
            self._facts[file.path] = known
        found: T = known[1]
        return found

    def keep_only(self, paths: set[Path]) -> None:
        """Forget files that are gone."""
        for path in set(self._seen) - paths:
            del self._seen[path]
            self._facts.pop(path, None)
        with self._lock:
            for path in set(self._wanted) - paths:
                del self._wanted[path]

    def digest(self, path: Path) -> str:
        """Find out a digest now, which reads the file from end to end.

        Raises:
            InvalidModelError: If it changes meanwhile.
            OSError: If it cannot be read.
        """
        with self._hashing:
            return self._cache.digest(path)

    def hash_behind(self) -> None:
        """See to it that the thread runs, if there is something for it to do."""
        with self._lock:
            if self._wanted and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="digests", daemon=True)
                self._thread.start()

    @property
    def unknown(self) -> int:
        """How many digests are still to be found out."""
        return len(self._wanted)

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # on Linux this is one thread's
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
        while (path := self._take()) is not None:
            try:
                with self._hashing:
                    self._cache.digest(path, _Dropping(path))
            except Exception as error:  # noqa: BLE001 - one file, and the next are still to be read
                _log.info("%s is not hashed: %s", path, error)
                if seen := self._seen.get(path):
                    self._failed.add(seen.key)
            else:
                self._found()

    def _take(self) -> Path | None:
        with self._lock:
            if not self._wanted:
                self._thread = None
                return None
            path = min(self._wanted, key=self._wanted.__getitem__)
            del self._wanted[path]
            return path


class _Dropping:
    """Tells the system that what was hashed is not read again soon."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = 0
        self._dropped = 0

    def __call__(self, piece: bytes) -> None:
        self._done += len(piece)
        if self._done - self._dropped < _DROP_BYTES or not hasattr(os, "posix_fadvise"):
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                os.posix_fadvise(descriptor, self._dropped, _DROP_BYTES, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
        self._dropped += _DROP_BYTES
