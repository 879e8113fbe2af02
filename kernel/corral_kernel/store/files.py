"""Writing files so that a crash leaves the old content or the new, and never a part of it."""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

from corral_kernel.errors import StoreError

WRITING_SUFFIX = ".writing"
FILE_MODE = 0o644
FOLDER_MODE = 0o755
# A file that is being written is locked; right after its creation it may not be yet.
_UNLOCKED_GRACE_S = 60.0
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than is allowed here",
}


@contextlib.contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn what the operating system reports into a `StoreError` that says what to do.

    Args:
        doing: What failed, such as `writing the blob …`.
    """
    try:
        yield
    except OSError as error:
        reason = _FULL.get(error.errno or 0)
        if reason:
            raise StoreError(f"{doing}: {reason}; free some space and try again") from error
        raise StoreError(f"{doing}: {reason_of(error)}") from error


def reason_of(error: OSError) -> str:
    """What the operating system says, as a part of a sentence."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def free_bytes(folder: Path) -> int:
    """Give the room that is left on the disk of a folder, which need not be there yet.

    Raises:
        OSError: If the system does not tell.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def sync_folder(folder: Path) -> None:
    """Make renames in a folder outlive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_for_writing(folder: Path, prefix: str) -> tuple[int, Path]:
    """Make a new, locked file with a name that no reader takes for content.

    The lock tells `sweep_unfinished` of any process that its writer lives.

    Returns:
        The descriptor, and where the file is.
    """
    path = folder / f"{prefix}{secrets.token_hex(8)}{WRITING_SUFFIX}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, FILE_MODE)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor, path


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`; a single `os.write` may write less."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_file(
    path: Path, data: bytes, scratch: Path, prefix: str, *, lasting: bool = True
) -> None:
    """Put `data` at `path` in one step; the old content stays until then.

    Args:
        path: The file; its folder is made if need be.
        data: The new content.
        scratch: An existing folder on the same file system for the unfinished file.
        prefix: Begins the unfinished file's name.
        lasting: It is on the disk when this returns. If not, a power failure may leave the old
            content, the new, or none that makes sense.
    """
    descriptor, unfinished = open_for_writing(scratch, prefix)
    try:
        write_all(descriptor, data)
        if lasting:
            os.fsync(descriptor)
        _rename_into(unfinished, path)
        if lasting:
            sync_folder(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _rename_into(unfinished: Path, path: Path) -> None:
    """Rename; another process may remove the folder, while it is empty, in between."""
    attempts = 5
    for attempt in range(attempts):
        path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        try:
            unfinished.replace(path)
        except FileNotFoundError:
            if attempt + 1 == attempts or not unfinished.exists():
                raise
        else:
            return


def sweep_unfinished(folder: Path) -> int:
    """Remove what writers that are gone have left in a folder.

    Returns:
        How many files were removed.
    """
    removed = 0
    for path in folder.glob(f"*{WRITING_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= _UNLOCKED_GRACE_S:
                removed += while_unlocked(path, path.unlink)
    return removed


def sweep_oldest(folder: Path, most: int) -> None:
    """Remove the oldest files of a folder, so that no more than `most` are left."""
    entries = sorted(files_in(folder), key=lambda entry: entry.stat().st_mtime)
    for entry in entries[: max(0, len(entries) - most)]:
        with contextlib.suppress(OSError):
            Path(entry.path).unlink()


def files_in(folder: Path) -> list[os.DirEntry[str]]:
    """Give the files of a folder; none if it is not there."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []


def while_unlocked(path: Path, work: Callable[[], object]) -> bool:
    """Do something while nobody else can get the lock on a file; False if somebody holds it.

    Raises:
        OSError: If the file cannot be opened, or what the work raises.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        work()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def read_regular(path: Path, limit: int) -> bytes:
    """Read the beginning of a file: not more than `limit`, nor than its size.

    What the system makes up while it is read, as under `/proc`, says that its size is 0.

    Raises:
        OSError: If it cannot be read, or is no file.
    """
    with open_regular(path) as stream:
        return stream.read(min(limit, os.fstat(stream.fileno()).st_size))


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, but nothing else: no device, no pipe, no folder.

    What is no file could never end, or never begin.

    Raises:
        OSError: If it cannot be opened, or is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
