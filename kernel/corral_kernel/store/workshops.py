"""Folders in which tasks work: their sources laid out, and room for what they make.

    with workshops.open() as workshop:
        references = workshop.lay_out(files)        # hard links in `workshop.source`
        …                                           # a task fills `workshop.made`
        path = workshop.path_of(made_file)

They lie beside the blobs, so that what is made is moved and not copied. Who has one has a lock on
it, which ends with the process: so the next start knows what a crash has left. A workshop may name
a model that is there for its work alone: a crash leaves that too.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from corral_kernel.contracts import FileRef, MadeFile
from corral_kernel.errors import InvalidNameError, InvalidRequestError, TaskError
from corral_kernel.folderlocks import hold_folder, lock_folder, open_folder, remove_folder
from corral_kernel.foldernames import check_folder_names
from corral_kernel.models import ModelFile
from corral_kernel.names import ModelName
from corral_kernel.store.files import FOLDER_MODE, open_regular, store_errors
from corral_kernel.store.folders import own_bytes, put_file

_SOURCE: Final = "source"
_MADE: Final = "made"
_SCRATCH: Final = "model"  # the file that names such a model
_SCRATCH_TAG: Final = "locked-"
_MAX_NAME_BYTES: Final = 1024


def scratch_name(model: ModelName) -> ModelName:
    """Make a name, beside that of a model, that nobody has: see `Workshops.open`."""
    return ModelName.from_parts(model.parts._replace(tag=_SCRATCH_TAG + secrets.token_hex(8)))


class Workshop:
    """One such folder."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / _SOURCE
        self.made = folder / _MADE

    def lay_out(self, files: Sequence[ModelFile]) -> tuple[FileRef, ...]:
        """Put files into `source`, under their names, which are checked already.

        Raises:
            InvalidModelError: If one is damaged.
            StoreError: If one is missing, or cannot be put there.
        """
        with store_errors("laying out the files to work on"):
            for file in files:
                put_file(file, self.source / file.name)
        return tuple(
            FileRef(
                role="file",
                digest=file.digest,
                size_bytes=file.size_bytes,
                name=file.name,
                path=str(self.source / file.name),
            )
            for file in files
        )

    def path_of(self, file: MadeFile) -> Path:
        """Where a file lies that was made.

        Raises:
            TaskError: If it is named in a way that leads elsewhere.
        """
        path = self.made / file.name
        try:
            check_folder_names([file.name])
        except InvalidRequestError as error:
            raise TaskError(f"what was made is named wrongly: {error}") from None
        if path.resolve() != self.made.resolve() / file.name:
            raise TaskError(f"{file.name} was not made in its place, but is a link")
        return path


class Workshops:
    """The workshops of one store. Any number of threads and processes may use them at once.

    Args:
        place: Their folder; it is made with the first.
    """

    def __init__(self, place: Path) -> None:
        self._place = place

    @contextlib.contextmanager
    def open(self, scratch: ModelName | None = None) -> Iterator[Workshop]:
        """Make one; it goes with the end of the block.

        Args:
            scratch: A model that is deleted before the end of the block, unless there is a crash.

        Raises:
            StoreError: If it cannot be made.
        """
        with store_errors(f"making a folder to work in, in {self._place}"):
            self._place.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            folder = self._place / secrets.token_hex(8)
            with self._locked(fcntl.LOCK_SH):  # no sweep comes between it and its own lock
                folder.mkdir(FOLDER_MODE)
                hold = hold_folder(folder)
            for part in (_SOURCE, _MADE):
                (folder / part).mkdir(FOLDER_MODE)
            if scratch is not None:
                (folder / _SCRATCH).write_text(scratch.full, "utf-8")
        try:
            yield Workshop(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if hold:
                hold.release()

    def abandoned(self) -> list[ModelName]:
        """Give the models that were there for the work of a process that is gone."""
        if not self._place.is_dir():
            return []
        with self._locked(fcntl.LOCK_EX):
            found = map(_scratch_of, filter(_is_unused, self._place.iterdir()))
            return [name for name in found if name is not None]

    def sweep(self, *, dry_run: bool = False) -> list[int]:
        """Remove those whose process is gone.

        Args:
            dry_run: Remove nothing.

        Returns:
            Of each one that is removed the bytes that are nowhere else.
        """
        if not self._place.is_dir():
            return []
        with self._locked(fcntl.LOCK_EX):
            sizes = {folder: own_bytes(folder) for folder in self._place.iterdir()}
            return [
                size_bytes
                for folder, size_bytes in sizes.items()
                if remove_folder(folder, lambda: not dry_run)
            ]

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        descriptor = open_folder(self._place)
        try:
            lock_folder(descriptor, kind)
            yield
        finally:
            os.close(descriptor)


def _is_unused(folder: Path) -> bool:
    return remove_folder(folder, lambda: False)


def _scratch_of(folder: Path) -> ModelName | None:
    try:
        with open_regular(folder / _SCRATCH) as file:
            name = ModelName.parse(file.read(_MAX_NAME_BYTES).decode("utf-8", "replace"))
    except (OSError, InvalidNameError):
        return None
    return name if name.tag.startswith(_SCRATCH_TAG) else None
