"""Locks on folders: who uses one has a shared lock on it, who removes one an exclusive lock.

    hold = hold_folder(path)            # None: it is not there
    hold.release()
    remove_folder(path, may_go)         # False: somebody uses it

A lock ends with its process, so a crash leaves none, and other processes see it.
"""

import fcntl
import logging
import os
import secrets
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

REMOVING: Final = ".removing"


class FolderHold:
    """Keeps a folder from being removed; let go by `release`, or when nothing refers to it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Let the folder go; again does nothing."""
        self._close()


def hold_folder(path: Path) -> FolderHold | None:
    """Hold a folder; `None` if it is not there, or was just taken away.

    Raises:
        OSError: If it cannot be opened, or is no folder.
    """
    try:
        hold = FolderHold(path, open_folder(path))
    except FileNotFoundError:
        return None
    lock_folder(hold.descriptor, fcntl.LOCK_SH)
    if is_at(hold.descriptor, path):
        return hold
    hold.release()
    return None


def remove_folder(path: Path, may_go: Callable[[], bool], *, wait: bool = False) -> bool:
    """Remove a folder; False if somebody uses it, and that is not waited for."""
    try:
        descriptor = open_folder(path)
    except OSError:
        return True
    try:
        if not lock_folder(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
        if is_at(descriptor, path) and may_go():
            away = aside(path, REMOVING)
            path.rename(away)
            shutil.rmtree(away, ignore_errors=True)
    except OSError as error:
        _log.warning("%s cannot be removed: %s", path, error.strerror)
    finally:
        os.close(descriptor)
    return True


def open_folder(path: Path) -> int:
    """Open a folder, but none that a link leads to; gives the descriptor."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def lock_folder(descriptor: int, kind: int) -> bool:
    """Lock an open folder, as `fcntl.flock` does; False if it is in use."""
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: everything counts as used
        return kind == fcntl.LOCK_SH
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open folder is still the one of this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def aside(path: Path, suffix: str) -> Path:
    """Give a new name beside a folder, which nobody takes for one of a model."""
    return path.with_name(f".{secrets.token_hex(8)}{suffix}")
