"""Clean-up: what no manifest needs any more."""

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from corral_kernel.errors import (
    CorralError,
    InvalidDigestError,
    InvalidModelError,
    ModelNotFoundError,
    StoreError,
)
from corral_kernel.names import ModelName, parse_digest
from corral_kernel.store.blobs import Blobs, used_at
from corral_kernel.store.files import WRITING_SUFFIX, sweep_unfinished, while_unlocked
from corral_kernel.store.locks import StoreLocks
from corral_kernel.store.manifests import Manifest, Manifests

GRACE_S: Final = 3600.0
"""What is younger may belong to an upload, or to a creation that is about to name it."""

PARTIAL_SUFFIX: Final = ".partial"  # of our own unfinished downloads: their bytes
PARTS_SUFFIX: Final = ".parts"  # and how far each part of them is
_FOREIGN_PARTIAL: Final = "-partial"  # of Ollama's
_LEGACY_NAME: Final = re.compile(r"sha256:[0-9a-fA-F]{64}")
_BLOCK_BYTES: Final = 512  # as `st_blocks` counts

Kind = Literal["blob", "partial", "other"]


class Stray(NamedTuple):
    """A file among the blobs that no manifest needs."""

    path: Path
    kind: Kind
    digest: str  # of a blob; else empty
    size_bytes: int  # on the disk
    used_at: float  # Unix seconds


def rename_legacy_blobs(blobs: Blobs) -> None:
    """Rename `sha256:HEX`, as old releases wrote, to `sha256-HEX`."""
    for entry in list(blobs.entries()):
        if _LEGACY_NAME.fullmatch(entry.name):
            with contextlib.suppress(OSError):
                Path(entry.path).rename(blobs.path(entry.name))


def sweep_writers(blobs: Blobs, manifests: Manifests) -> None:
    """Remove files of writers that died; nobody could ever go on with them."""
    sweep_unfinished(blobs.folder)
    sweep_unfinished(manifests.folder)


def remove_models(names: Iterable[ModelName], manifests: Manifests) -> None:
    """Delete models that no user made; their blobs go as all do that no manifest needs."""
    for name in names:
        with contextlib.suppress(ModelNotFoundError, StoreError):
            manifests.remove(name)


def read_needed(
    manifests: Manifests, without: Collection[ModelName] = frozenset()
) -> frozenset[str]:
    """Give every digest that some manifest needs.

    Args:
        manifests: Of the store.
        without: Those that do not count.

    Raises:
        InvalidModelError: If one cannot be read: then nobody can tell.
    """
    needed: set[str] = set()
    for name in manifests.names():
        if name in without:
            continue
        try:
            needed |= manifests.read(name).manifest.digests
        except ModelNotFoundError:  # whoever knows no locks has just deleted it
            continue
        except CorralError as error:
            raise InvalidModelError(f"{name.short}: {error}") from error
    return frozenset(needed)


def needed_digests(manifests: Manifests) -> frozenset[str] | None:
    """Every digest that some manifest needs; `None` if nobody can tell."""
    try:
        return read_needed(manifests)
    except InvalidModelError:
        return None


def needed_folders(manifests: Manifests, lent: Iterable[Manifest]) -> frozenset[str] | None:
    """Give the keys of all folders of models; `None` if a manifest cannot be read."""
    keys = {manifest.folder_key for manifest in lent}
    for name in manifests.names():
        try:
            keys.add(manifests.read(name).manifest.folder_key)
        except CorralError:
            return None
    return frozenset(keys)


def find_strays(blobs: Blobs, needed: frozenset[str]) -> Iterator[Stray]:
    """Find all files among the blobs that no manifest needs, whoever may be using them."""
    for entry in list(blobs.entries()):
        digest = _digest(entry.name)
        if digest in needed:
            continue
        with contextlib.suppress(OSError):
            status = _status(entry)
            size_bytes = min(status.st_size, status.st_blocks * _BLOCK_BYTES)
            kind = "blob" if digest else _kind(entry.name)
            yield Stray(Path(entry.path), kind, digest, size_bytes, used_at(status))


def remove_stray(stray: Stray, locks: StoreLocks, *, dry_run: bool = False) -> bool:
    """Delete a file that no manifest needs; False if somebody uses it, or it cannot be deleted.

    Args:
        stray: The file.
        locks: Of the store.
        dry_run: Only tell whether it would be deleted.
    """
    path = stray.path

    def unlink() -> None:
        if not dry_run:
            path.with_suffix(PARTS_SUFFIX).unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    try:
        if stray.digest:
            with locks.taking(stray.digest) as free:
                if free:
                    unlink()
                return free
        if path.suffix == PARTS_SUFFIX and (partial := path.with_suffix(PARTIAL_SUFFIX)).exists():
            return while_unlocked(partial, lambda: None)  # it goes with that one
        if path.suffix in (PARTIAL_SUFFIX, WRITING_SUFFIX):
            return while_unlocked(path, unlink)
        unlink()
    except OSError:
        return False
    return True


def prune(blobs: Blobs, manifests: Manifests, locks: StoreLocks) -> list[str]:
    """Delete blobs, partial downloads and strays that nobody needs and that are over an hour old.

    Does nothing while any manifest is damaged: what that one needs is unknown.

    Returns:
        Names of the deleted files.
    """
    needed = needed_digests(manifests)
    if needed is None:
        return []
    old = time.time() - GRACE_S
    strays = [stray for stray in find_strays(blobs, needed) if stray.used_at < old]
    removed = [stray.path.name for stray in strays if remove_stray(stray, locks)]
    manifests.remove_empty_folders()
    return removed


def remove_unneeded(
    digests: Iterable[str], blobs: Blobs, manifests: Manifests, locks: StoreLocks
) -> tuple[list[str], list[str]]:
    """Delete those of some blobs that no manifest needs, at once.

    Returns:
        The digests of the deleted blobs, and of those that go unneeded, but not unused.
    """
    needed = needed_digests(manifests)
    removed: list[str] = []
    used: list[str] = []
    for digest in digests if needed is not None else ():
        if digest not in (needed or ()):
            with locks.taking(digest) as free:
                if not free:
                    used.append(digest)
                elif blobs.remove(digest):
                    removed.append(digest)
    return removed, used


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except FileNotFoundError:  # a link that leads nowhere
        return entry.stat(follow_symlinks=False)


def _kind(filename: str) -> Kind:
    ours = filename.endswith((PARTIAL_SUFFIX, PARTS_SUFFIX))
    return "partial" if ours or _FOREIGN_PARTIAL in filename else "other"


def _digest(filename: str) -> str:
    try:
        return parse_digest(filename)
    except InvalidDigestError:
        return ""
