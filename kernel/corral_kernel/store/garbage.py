"""What can be thrown away: found, counted, and deleted on request.

    report = collect(parts, Wish(dry_run=True))     # InvalidModelError: a manifest is damaged

Three kinds: blobs that no manifest needs; what is left of downloads and of writers that are gone;
and what was derived from models that are gone (folders, heads of their files).
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import msgspec

from corral_kernel.errors import CorralError, InvalidModelError
from corral_kernel.names import parse_digest
from corral_kernel.store.blobs import Blobs
from corral_kernel.store.cache import DerivedCache, file_key
from corral_kernel.store.folders import Folders
from corral_kernel.store.locks import StoreLocks
from corral_kernel.store.manifests import Manifests
from corral_kernel.store.prune import (
    GRACE_S,
    Stray,
    find_strays,
    read_needed,
    remove_models,
    remove_stray,
)
from corral_kernel.store.workshops import Workshops


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Args:
        dry_run: Delete nothing, only tell.
        everything: Take what is younger than an hour too.
    """

    dry_run: bool = False
    everything: bool = False


class Heap(msgspec.Struct, kw_only=True):
    """Some files together."""

    count: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """Add one file."""
        self.count += 1
        self.size_bytes += size_bytes


class GarbageReport(msgspec.Struct, kw_only=True):
    """What was deleted, or would be.

    Attributes:
        dry_run: Whether nothing was deleted.
        blobs: That no manifest needs.
        partials: Unfinished downloads.
        others: Strays among the blobs.
        folders: That were laid out for models that are gone, or in which a killed server made one.
        cached: What was derived from files that are gone.
        young: What stays for being younger than an hour.
        used: What stays since some server uses it.
        files: Names of the files among the blobs that go.
    """

    dry_run: bool
    blobs: Heap = msgspec.field(default_factory=Heap)
    partials: Heap = msgspec.field(default_factory=Heap)
    others: Heap = msgspec.field(default_factory=Heap)
    folders: Heap = msgspec.field(default_factory=Heap)
    cached: Heap = msgspec.field(default_factory=Heap)
    young: Heap = msgspec.field(default_factory=Heap)
    used: Heap = msgspec.field(default_factory=Heap)
    files: list[str] = []

    @property
    def size_bytes(self) -> int:
        """All bytes that go."""
        heaps = (self.blobs, self.partials, self.others, self.folders, self.cached)
        return sum(heap.size_bytes for heap in heaps)


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a store that garbage lies in."""

    blobs: Blobs
    manifests: Manifests
    locks: StoreLocks
    folders: Folders
    workshops: Workshops
    cache: DerivedCache
    needed_folders: Callable[[], Collection[str] | None]
    lent_files: Callable[[], Iterable[Path]]


def collect(parts: Parts, wish: Wish) -> GarbageReport:
    """Find garbage, and delete it unless it is only to be told of.

    Raises:
        InvalidModelError: If a manifest is damaged: nobody knows what it needs.
        StoreError: If another process keeps the store locked.
    """
    report = GarbageReport(dry_run=wish.dry_run)
    with parts.locks.changing():
        abandoned = parts.workshops.abandoned()
        if not wish.dry_run:
            remove_models(abandoned, parts.manifests)
        try:
            needed = read_needed(parts.manifests, without=abandoned)
        except InvalidModelError as error:
            raise InvalidModelError(
                f"nothing was deleted, since nobody can tell what is needed: {error}; "
                "delete that model, or pull or create it again"
            ) from error
        for stray in list(find_strays(parts.blobs, needed)):
            _sort(stray, parts, wish, report)
        if not wish.dry_run:
            parts.manifests.remove_empty_folders()
        for size_bytes in parts.folders.sweep(parts.needed_folders, dry_run=wish.dry_run):
            report.folders.add(size_bytes)
    for size_bytes in parts.workshops.sweep(dry_run=wish.dry_run):
        report.folders.add(size_bytes)
    for size_bytes in parts.cache.drop(_keys(parts, report.files), dry_run=wish.dry_run):
        report.cached.add(size_bytes)
    return report


def _sort(stray: Stray, parts: Parts, wish: Wish, report: GarbageReport) -> None:
    heap = {"blob": report.blobs, "partial": report.partials, "other": report.others}[stray.kind]
    if not wish.everything and stray.used_at > time.time() - GRACE_S:
        heap = report.young
    elif remove_stray(stray, parts.locks, dry_run=wish.dry_run):
        report.files.append(stray.path.name)
    else:
        heap = report.used
    heap.add(stray.size_bytes)


def _keys(parts: Parts, gone: Collection[str]) -> frozenset[str]:
    """By what the cache keeps facts of files that are there: a digest's hex, or a file's state."""
    keys = set()
    names = {entry.name for entry in parts.blobs.entries()}.difference(gone)
    for name in names:
        with contextlib.suppress(CorralError):
            keys.add(parse_digest(name).partition(":")[2])
    for path in parts.lent_files():
        with contextlib.suppress(OSError):
            keys.add(file_key(path))
    return frozenset(keys)
