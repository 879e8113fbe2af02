"""Locks by which the servers on one store keep out of each other's way.

    locks = StoreLocks(root / LOCK_FILE)
    with locks.changing(): ...          # nobody else writes or deletes manifests meanwhile
    locks.pin(digests)                  # from here on nobody deletes these blobs
    free = locks.unpin(digests)         # those that nothing of this process needs any more
    with locks.taking(digest) as mine:  # False: somebody needs the blob
        ...

All are locks on bytes of one empty file: the first byte stands for the manifests, each blob has one
that its digest tells. So a pin costs no descriptor and no file, it can be had before the blob is
there, and it ends with its process, however that ends. They are POSIX locks, which Linux and macOS
have on local disks and on NFS; such locks belong to a process, so a process has one `StoreLocks` a
store. Ollama knows nothing of them.
"""

import contextlib
import errno
import fcntl
import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from corral_kernel.errors import StoreError
from corral_kernel.names import parse_digest
from corral_kernel.store.files import FOLDER_MODE, store_errors

_log = logging.getLogger(__name__)

LOCK_FILE: Final = ".corral-lock"
_MODE: Final = 0o644
_OTHERS_WRITE: Final = 0o022
_MANIFESTS: Final = 0  # the byte that stands for them
_PLACE_DIGITS: Final = 15  # of a digest; as an offset they fit a signed 64-bit number
_PATIENCE_S: Final = 30.0
_POLL_S: Final = 0.01
_TAKEN: Final = frozenset({errno.EAGAIN, errno.EACCES})
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


class StoreLocks:
    """The locks of one store. Any number of threads may use them.

    Where there is no file to lock (a store that is not there yet, or that cannot be written to), or
    no locks are to be had on its file system, they hold within this process alone.

    Args:
        path: Of the file; it is made in its folder when the first lock is needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._writable = True
        self._lockable = True
        self._close: Callable[[], object] = _nothing
        self._opening = threading.Lock()
        self._changing = threading.RLock()
        self._depth = 0
        self._pinning = threading.Lock()
        self._pins: Counter[int] = Counter()  # by the byte

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keep all others from changing manifests, and from deleting what none needs.

        Raises:
            StoreError: If another process keeps us from it for too long.
        """
        with self._changing:
            if not self._depth:
                self._wait(_MANIFESTS, fcntl.LOCK_EX)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    self._let_go(_MANIFESTS)

    def pin(self, digests: Iterable[str]) -> None:
        """Keep blobs from being deleted, those too that are not there yet.

        Raises:
            StoreError: If another process keeps us from it for too long.
        """
        pinned: list[str] = []
        try:
            for digest in digests:
                with self._pinning:
                    place = _place(digest)
                    if not self._pins[place]:
                        self._wait(place, fcntl.LOCK_SH)
                    self._pins[place] += 1
                pinned.append(digest)
        except BaseException:
            self.unpin(pinned)
            raise

    def unpin(self, digests: Iterable[str]) -> list[str]:
        """Undo one `pin` of each; gives those that are not pinned by this process any more."""
        free = []
        with self._pinning:
            for digest in digests:
                place = _place(digest)
                self._pins[place] -= 1
                if not self._pins[place]:
                    del self._pins[place]
                    self._let_go(place)
                    free.append(digest)
        return free

    @contextlib.contextmanager
    def taking(self, digest: str) -> Iterator[bool]:
        """Keep others from pinning a blob that is to be deleted; gives False if somebody has."""
        place = _place(digest)
        with self._pinning:
            if self._pins[place] or not self._try(place, fcntl.LOCK_EX):
                yield False
                return
            try:
                yield True
            finally:
                self._let_go(place)

    def close(self) -> None:
        """Let all go that is left; the next lock opens the file again."""
        with self._opening:
            self._descriptor = -1
            self._close()
            self._close = _nothing

    # ------------------------------------------------------------------------------------ the file

    def _wait(self, place: int, kind: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not self._try(place, kind):
            if time.monotonic() > deadline:
                raise StoreError(
                    f"another process has kept the store {self._path.parent} locked for "
                    f"{_PATIENCE_S:.0f} seconds: does a server hang that uses it too?"
                )
            time.sleep(_POLL_S)

    def _try(self, place: int, kind: int) -> bool:
        """Lock a byte, unless somebody else has; where nothing can be locked that is as good."""
        if not self._open(make=kind == fcntl.LOCK_SH):
            return True
        if kind == fcntl.LOCK_EX and not self._writable:
            return place == _MANIFESTS  # whoever uses a blob of another user's store, it stays
        try:
            fcntl.lockf(self._descriptor, kind | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if error.errno not in _NO_LOCKS:
                raise
            self._lockable = False
            _log.warning(
                "%s cannot be locked (%s): run only one server on this store",
                self._path,
                error.strerror,
            )
        return True

    def _let_go(self, place: int) -> None:
        if self._descriptor >= 0 and self._lockable:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)

    def _open(self, *, make: bool) -> bool:
        """Open the file; tells whether there is one that can be locked.

        Args:
            make: Make the store's folder too: work is under way that will write to it.
        """
        with self._opening:
            if self._descriptor < 0 and self._lockable and self._writable:
                with store_errors(f"opening {self._path}"):
                    self._find(make=make)
            return self._descriptor >= 0 and self._lockable

    def _find(self, *, make: bool) -> None:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            if make:
                self._path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = self._make(flags)
        except FileNotFoundError:
            return  # there is no store yet
        except PermissionError:
            descriptor = self._read_only(flags)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            descriptor = self._read_only(flags)
        if descriptor >= 0:
            # Closed in the end alone: to close any descriptor of a file drops all locks on it.
            self._close = weakref.finalize(self, os.close, descriptor)
            self._descriptor = descriptor

    def _make(self, flags: int) -> int:
        try:
            return os.open(self._path, flags | os.O_RDWR)
        except FileNotFoundError:
            descriptor = os.open(self._path, flags | os.O_RDWR | os.O_CREAT, _MODE)
            # Whoever may write to the store may lock it.
            shared = self._path.parent.stat().st_mode & _OTHERS_WRITE
            if shared:
                os.fchmod(descriptor, _MODE | shared)
            return descriptor

    def _read_only(self, flags: int) -> int:
        self._writable = False
        try:
            return os.open(self._path, flags | os.O_RDONLY)
        except OSError:
            return -1  # nobody who uses this store locks anything


def _nothing() -> None:
    """There is no descriptor to close."""


def _place(digest: str) -> int:
    hexadecimal = parse_digest(digest).partition(":")[2]
    return 1 + int(hexadecimal[:_PLACE_DIGITS], 16)
