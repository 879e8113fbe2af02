"""The cache that Hugging Face's libraries keep: `models--USER--REPO/snapshots/REVISION/…`.

Files of a snapshot are links into `blobs/` of the same repository; those of large files are named
by their SHA-256, which is so known without reading them. Of the revisions the one that `refs/main`
names counts, else the latest.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from corral_folders.naming import HUB_HOST, Place
from corral_folders.walk import File, Walk, is_folder

_REPOSITORY: Final = re.compile(r"models--(?P<names>[A-Za-z0-9_.-]{1,200})")
_REVISION: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MAX_REF_BYTES: Final = 200
SNAPSHOTS: Final = "snapshots"


def repository_of(path: Path) -> Place | None:
    """Tell by its name which repository a folder of the cache holds; None: it is none."""
    found = _REPOSITORY.fullmatch(path.name)
    if found is None or not is_folder(path / SNAPSHOTS):
        return None
    user, _, model = found["names"].rpartition("--")
    return Place(HUB_HOST, (user or "library", model))


def snapshot_files(repository: Path, walk: Walk) -> Iterator[tuple[Path, list[File]]]:
    """Give each folder of the snapshot that counts, with the files in it alone."""
    snapshot = _snapshot(repository)
    if snapshot is None:
        walk.notes.say(f"{repository} has no snapshot")
        return
    for folder in walk.folders(snapshot):
        found = (walk.file(entry, folder.parts, repository) for entry in folder.files)
        yield folder.path, [_named(file) for file in found if file]


def _named(file: File) -> File:
    if not file.path.is_symlink():
        return file
    target = file.path.readlink().name
    return file._replace(digest=f"sha256:{target}") if _SHA256.fullmatch(target) else file


def _snapshot(repository: Path) -> Path | None:
    folder = repository / SNAPSHOTS
    try:
        with (repository / "refs" / "main").open("rb") as stream:
            main = stream.read(_MAX_REF_BYTES).decode("ascii", "replace").strip()
    except OSError:
        main = ""
    if _REVISION.fullmatch(main) and main.strip(".") and _is_own_folder(folder / main):
        return folder / main
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        return Path(max(found, key=lambda entry: entry.stat().st_mtime_ns).path)
    except (OSError, ValueError):
        return None


def _is_own_folder(path: Path) -> bool:
    return is_folder(path) and not path.is_symlink()
