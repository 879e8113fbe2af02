"""Folders for workers: the files of a model that is a folder, laid out under their names.

    hold = folders.lay_out(model)       # FolderHold: it stays until `hold.release()`
    folders.remove_when_unused(key, may_go)
    folders.sweep(needed)               # what is left of models that are gone, and of crashes

Files are hard links to the blobs, or copies where the file system has none: onnxruntime refuses
weights that a symbolic link leads to. So the folders lie beside the blobs, on their file system;
in the cache only where that place cannot be written to.

A folder is built aside and renamed, so it is whole or not there. Who uses one has a lock on it:
servers till a worker loaded it, workers to their ends. So none goes that is in use, whichever of
the servers on a store uses it; see `corral_kernel.folderlocks`.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from corral_kernel.errors import InvalidModelError, InvalidRequestError, StoreError
from corral_kernel.folderlocks import (
    REMOVING,
    FolderHold,
    aside,
    hold_folder,
    is_at,
    lock_folder,
    open_folder,
    remove_folder,
)
from corral_kernel.foldernames import check_folder_names
from corral_kernel.models import Model, ModelFile
from corral_kernel.store.files import FOLDER_MODE, open_regular, reason_of, store_errors

_log = logging.getLogger(__name__)

_BUILDING: Final = ".building"
_KEY_CHARACTERS: Final = 64
_COPY_BYTES: Final = 1 << 20
_ATTEMPTS: Final = 5
# What is being built is locked; right after its creation it may not be yet.
_UNLOCKED_GRACE_S: Final = 60.0


class Folders:
    """The folders of one store. Any number of threads and processes may use them at once.

    Args:
        places: Where they may lie; the first that can be written to is used.
    """

    def __init__(self, *places: Path) -> None:
        self._places = places
        self._place: Path | None = None
        self._building = threading.Lock()  # one at a time: what two want is built once
        self._awaiting = threading.Lock()
        self._awaited: set[str] = set()  # keys of which a thread waits that nobody uses them

    @property
    def place(self) -> Path:
        """The folder of the folders; it is made when the first is laid out."""
        if self._place is None:
            self._place = next(filter(_is_writable, self._places), self._places[-1])
        return self._place

    def path(self, key: str) -> Path:
        """Where the folder of a key lies, or would lie; see `Model.folder_key`."""
        return self.place / key

    def lay_out(self, model: Model) -> FolderHold:
        """Make sure that the files of a model lie in its folder.

        One that is there already is only looked at: that each file is, with its size.

        Raises:
            InvalidModelError: If a file is damaged, or has no sound name.
            StoreError: If a file is missing, or the folder cannot be made.
        """
        files = model.folder_files
        try:
            check_folder_names([file.name for file in files])
        except InvalidRequestError as error:
            raise InvalidModelError(f"{model.name.short} cannot be loaded: {error}") from error
        final = self.path(model.folder_key)
        with store_errors(f"laying out the files of {model.name.short}"):
            if found := hold_folder(final):
                if not _fault(final, files):
                    return found
                found.release()
            with self._building:
                for _ in range(_ATTEMPTS):
                    if found := _sound(final, files) or self._build(final, files):
                        return found
        raise StoreError(f"{final} changes all the time: is something else cleaning it up?")

    def remove_when_unused(self, key: str, may_go: Callable[[], bool]) -> None:
        """Remove a folder now, or as soon as nobody uses it any more.

        Args:
            key: Of the folder.
            may_go: Asked right before; perhaps in another thread, and much later.
        """
        if remove_folder(self.path(key), may_go):
            return
        with self._awaiting:
            if key in self._awaited:
                return
            self._awaited.add(key)
        threading.Thread(
            target=self._remove_later,
            args=(key, may_go),
            name=f"remove-{key[:8]}",
            daemon=True,  # a server does not live on for it: the next start sees to the folder
        ).start()

    def _remove_later(self, key: str, may_go: Callable[[], bool]) -> None:
        """Wait until nobody uses a folder; one thread of a key does."""

        def asked() -> bool:
            self._await_no_more(key)  # the answer holds for whoever came till now
            return may_go()

        gone = remove_folder(self.path(key), asked, wait=True)
        if self._await_no_more(key) and gone:  # not asked: another folder has taken its place
            self.remove_when_unused(key, may_go)

    def _await_no_more(self, key: str) -> bool:
        """Let others wait for a key; False if it is not waited for."""
        with self._awaiting:
            found = key in self._awaited
            self._awaited.discard(key)
        return found

    def sweep(
        self, needed: Callable[[], Collection[str] | None], *, dry_run: bool = False
    ) -> list[int]:
        """Remove folders that no model needs and nobody uses, and what crashes left.

        So too what lies in a place that is not the one to use any more.

        Args:
            needed: Gives the keys that models need; `None`: nobody can tell. Asked only where
                there are folders.
            dry_run: Remove nothing.

        Returns:
            Of each folder that is removed the bytes that are nowhere else.
        """
        places = filter(_is_writable, self._places)
        paths = [path for place in places for path in _folders(place)]
        broken = [path for path in paths if path.name.endswith(REMOVING) or _is_abandoned(path)]
        whole = [path for path in paths if len(path.name) == _KEY_CHARACTERS]
        kept = needed() if whole else ()
        stale = [
            path
            for path in whole
            if path.parent != self.place or (kept is not None and path.name not in kept)
        ]
        sizes = {path: own_bytes(path) for path in (*broken, *stale)}
        for path in broken if not dry_run else ():
            shutil.rmtree(path, ignore_errors=True)
        gone = [path for path in stale if remove_folder(path, lambda: not dry_run)]
        return [sizes[path] for path in (*broken, *gone)]

    def _build(self, final: Path, files: Sequence[ModelFile]) -> FolderHold | None:
        """Build a folder; `None` if another process was quicker, or took it away."""
        self.place.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        unfinished = aside(final, _BUILDING)
        unfinished.mkdir(FOLDER_MODE)
        try:
            hold = hold_folder(unfinished)
            for file in files if hold else ():
                put_file(file, unfinished / file.name)
            unfinished.rename(final)
        except BaseException as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if isinstance(error, OSError) and final.is_dir():
                return None
            raise
        if hold:
            hold.path = final
        return hold


def _sound(path: Path, files: Sequence[ModelFile]) -> FolderHold | None:
    """Hold a folder that is there and sound; one that is damaged is taken away."""
    hold = hold_folder(path)
    fault = _fault(path, files) if hold else ""
    if not hold or not fault:
        return hold
    _log.warning("%s is laid out anew: %s", path, fault)
    away = aside(path, REMOVING)
    if is_at(hold.descriptor, path):
        path.rename(away)
    hold.release()
    remove_folder(away, lambda: True)
    return None


def _fault(folder: Path, files: Sequence[ModelFile]) -> str:
    """Say what of its files a folder lacks; empty: nothing."""
    for file in files:
        try:
            status = (folder / file.name).lstat()
        except OSError as error:
            return f"{file.name}: {reason_of(error)}"
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size_bytes:
            return f"{file.name} is no file of {file.size_bytes} bytes"
    return ""


def put_file(file: ModelFile, target: Path) -> None:
    """Put a file into a folder that is being built: a hard link, or else a copy.

    Raises:
        InvalidModelError: If it is damaged.
        StoreError: If it is not there.
        OSError: If it cannot be read or written.
    """
    target.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    try:
        with open_regular(file.path):  # a pipe or a device could be linked as well
            target.hardlink_to(file.path.resolve())
    except FileNotFoundError:
        raise StoreError(f"open {file.path}: no such file or directory") from None
    except OSError:  # another file system, one without links, or a file of another user
        _copy(file, target)
    size_bytes = target.stat().st_size
    if size_bytes != file.size_bytes:
        raise InvalidModelError(
            f"{file.name} is damaged: {file.path} has {size_bytes} bytes, not {file.size_bytes}; "
            "create the model again"
        )


def _copy(file: ModelFile, target: Path) -> None:
    with open_regular(file.path) as source, target.open("xb") as copy:
        hasher = hashlib.sha256()
        while chunk := source.read(_COPY_BYTES):
            hasher.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if f"sha256:{hasher.hexdigest()}" != file.digest:
        raise InvalidModelError(
            f"{file.name} is damaged: {file.path} has another digest; create the model again"
        )


def _is_abandoned(path: Path) -> bool:
    """Whether a folder was being built, and whoever did it is gone."""
    if not path.name.endswith(_BUILDING):
        return False
    try:
        if time.time() - path.stat().st_mtime < _UNLOCKED_GRACE_S:
            return False
        descriptor = open_folder(path)
    except OSError:
        return False
    try:
        return lock_folder(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def own_bytes(folder: Path) -> int:
    """Bytes of the files that are no links to blobs."""
    size_bytes = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                size_bytes += status.st_size
    return size_bytes


def _folders(place: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        yield from [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]


def _is_writable(place: Path) -> bool:
    existing = next(path for path in (place, *place.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
