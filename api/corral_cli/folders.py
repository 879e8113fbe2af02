"""The files of a model that is a folder on this machine."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from corral_cli.errors import CommandError
from corral_kernel.errors import InvalidRequestError
from corral_kernel.foldernames import MAX_FILES, check_folder_names

_SHOWN: Final = 20  # names in one line


class FolderFiles(Struct, frozen=True):
    """What of a folder makes a model."""

    files: dict[str, Path]  # by their names in it, with slashes
    left_out: tuple[str, ...]  # names of what does not; folders end with a slash


def folder_files(folder: Path, own: Path | None = None) -> FolderFiles:
    """Find all files of a folder, subfolders too; what is hidden is left out.

    Args:
        folder: Of the model.
        own: The Modelfile that names it, which is no part of the model.

    Raises:
        CommandError: If a file cannot be part of a model: a link that leads outside, a name that
            another system would not take, or too many.
    """
    files: dict[str, Path] = {}
    left_out = []
    for entry, name in _entries(folder):
        path = Path(entry.path)
        if entry.name.startswith(".") or (own and path.resolve() == own.resolve()):
            left_out.append(f"{name}/" if entry.is_dir() else name)
            continue
        check_inside(path, folder)
        if entry.is_symlink() and entry.is_dir():
            raise CommandError(f"{path} is a link to a folder: put a copy in its place")
        if not entry.is_dir():
            _check_file(path)
            files[name] = path
        if len(files) > MAX_FILES:
            raise CommandError(f"{folder} holds over {MAX_FILES} files: that is no model")
    try:
        check_folder_names(files)
    except InvalidRequestError as error:
        raise CommandError(f"{folder}: {error}") from None
    return FolderFiles(files, tuple(left_out))


def left_out_line(left_out: tuple[str, ...]) -> str:
    """Say what of a folder is not sent."""
    more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    return f"left out, no part of the model: {', '.join(left_out[:_SHOWN])}{more}\n"


def check_inside(file: Path, folder: Path) -> None:
    """Refuse a link that leads out of a folder.

    Raises:
        CommandError: If `file` is one.
    """
    target, root = file.resolve(), folder.resolve()
    if not target.is_relative_to(root):
        hint = "; download it with --local-dir" if ".cache" in target.parts else ""
        raise CommandError(f"insecure path: {file.name} leads to {target}{hint}")


def _entries(folder: Path, prefix: str = "") -> Iterator[tuple[os.DirEntry[str], str]]:
    """Every entry with its name in the folder; of folders the entries too, unless hidden."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror or error}") from None
    for entry in entries:
        yield entry, prefix + entry.name
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _entries(Path(entry.path), f"{prefix}{entry.name}/")


def _check_file(path: Path) -> None:
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    if not is_file:
        raise CommandError(f"{path} is no file: take it out of the folder")
