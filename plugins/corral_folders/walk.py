"""The files of a folder that somebody listed: bounded, and none that leads out of it."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from corral_kernel.store.files import reason_of

MAX_ENTRIES: Final = 20_000  # of one listed folder
MAX_DEPTH: Final = 8
MAX_SECONDS: Final = 20.0
_MAX_NOTES: Final = 50


def is_folder(path: Path) -> bool:
    """Whether there is a folder, as far as we may know."""
    try:
        return path.is_dir()
    except OSError:  # such as one inside a folder that is not for us
        return False


class File(NamedTuple):
    """A regular file, perhaps behind a link.

    Args:
        path: Where it is read.
        parts: Its path below the folder that it is listed with.
        status: Of what it leads to.
        digest: `sha256:hex` where a name tells it; else empty.
    """

    path: Path
    parts: tuple[str, ...]
    status: os.stat_result
    digest: str = ""


class Folder(NamedTuple):
    """One folder on the way; whoever empties `folders` goes no deeper."""

    path: Path
    parts: tuple[str, ...]
    files: list[os.DirEntry[str]]
    folders: list[os.DirEntry[str]]


class Notes:
    """What users should know, each thing once; the rest is counted."""

    def __init__(self) -> None:
        self._said: dict[str, None] = {}
        self._more = 0

    def say(self, text: str) -> None:
        """Note something."""
        if text not in self._said:
            if len(self._said) < _MAX_NOTES:
                self._said[text] = None
            else:
                self._more += 1

    def all(self) -> tuple[str, ...]:
        """Everything that was noted."""
        more = (f"and {self._more} more",) if self._more else ()
        return (*self._said, *more)


class Walk:
    """A walk through one listed folder.

    Args:
        root: The folder, without links in its path.
        notes: Where it is said what cannot be read.
    """

    def __init__(self, root: Path, notes: Notes) -> None:
        self.root = root
        self.notes = notes
        self._left = MAX_ENTRIES
        self._end = time.monotonic() + MAX_SECONDS

    def folders(self, start: Path, parts: tuple[str, ...] = ()) -> Iterator[Folder]:
        """Give a folder and those below it, in order; hidden ones and links to folders are not."""
        found = self._read(start, parts)
        if found is None:
            return
        yield found
        for entry in found.folders:
            if len(parts) >= MAX_DEPTH:
                self.notes.say(f"{start} is {MAX_DEPTH} folders deep: what is below is left out")
                return
            yield from self.folders(Path(entry.path), (*parts, entry.name))

    def _read(self, path: Path, parts: tuple[str, ...]) -> Folder | None:
        files: list[os.DirEntry[str]] = []
        folders: list[os.DirEntry[str]] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    self._left -= 1
                    if self._left < 0 or time.monotonic() > self._end:
                        self.notes.say(
                            f"{self.root} holds over {MAX_ENTRIES} files, or is slow to read: the "
                            "rest is left out; list folders in it that hold models"
                        )
                        break
                    if not entry.name.startswith("."):
                        of_kind = folders if entry.is_dir(follow_symlinks=False) else files
                        of_kind.append(entry)
        except OSError as error:
            self.notes.say(f"{path} cannot be read: {reason_of(error)}")
            return None
        files.sort(key=lambda entry: entry.name)
        folders.sort(key=lambda entry: entry.name)
        return Folder(path, parts, files, folders)

    def file(self, entry: os.DirEntry[str], parts: tuple[str, ...], within: Path) -> File | None:
        """Look at a file; None: it is none, or leads out of `within`, a path without links."""
        path = Path(entry.path)
        try:
            status = entry.stat()
            if not stat.S_ISREG(status.st_mode):
                return None
            if entry.is_symlink() and not path.resolve(strict=True).is_relative_to(within):
                self.notes.say(f"{path} is a link that leads out of {within}: left out")
                return None
        except OSError as error:
            self.notes.say(f"{path} cannot be read: {reason_of(error)}")
            return None
        return File(path, (*parts, entry.name), status)
