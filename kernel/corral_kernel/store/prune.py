"""Clean-up: what no manifest needs any more."""

import contextlib
import re
import time
from collections.abc import Iterable
from pathlib import Path

from corral_kernel.errors import CorralError, InvalidDigestError
from corral_kernel.names import parse_digest
from corral_kernel.store.blobs import Blobs, used_at
from corral_kernel.store.files import sweep_unfinished
from corral_kernel.store.manifests import Manifest, Manifests

_GRACE_S = 3600.0
_LEGACY_NAME = re.compile(r"sha256:[0-9a-fA-F]{64}")


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


def needed_digests(manifests: Manifests) -> frozenset[str] | None:
    """Every digest that some manifest needs; `None` if one cannot be read, so nobody can tell."""
    needed: set[str] = set()
    for name in manifests.names():
        try:
            needed |= manifests.read(name).manifest.digests
        except CorralError:
            return None
    return frozenset(needed)


def needed_folders(manifests: Manifests, lent: Iterable[Manifest]) -> frozenset[str] | None:
    """Give the keys of all folders of models; `None` if a manifest cannot be read."""
    keys = {manifest.folder_key for manifest in lent}
    for name in manifests.names():
        try:
            keys.add(manifests.read(name).manifest.folder_key)
        except CorralError:
            return None
    return frozenset(keys)


def prune(blobs: Blobs, manifests: Manifests) -> list[str]:
    """Delete blobs, partial downloads and strays that nobody needs and that are over an hour old.

    Does nothing while any manifest is damaged: what that one needs is unknown.

    Returns:
        Names of the deleted files.
    """
    needed = needed_digests(manifests)
    if needed is None:
        return []
    old = time.time() - _GRACE_S
    removed = []
    for entry in list(blobs.entries()):
        with contextlib.suppress(OSError):
            if used_at(entry.stat()) < old and _digest(entry.name) not in needed:
                Path(entry.path).unlink()
                removed.append(entry.name)
    manifests.remove_empty_folders()
    return removed


def _digest(filename: str) -> str | None:
    try:
        return parse_digest(filename)
    except InvalidDigestError:
        return None


def remove_unneeded(
    digests: Iterable[str], blobs: Blobs, manifests: Manifests, pinned: Iterable[str]
) -> list[str]:
    """Delete those of some blobs that no manifest needs, at once.

    Returns:
        The digests of the deleted blobs.
    """
    needed = needed_digests(manifests)
    if needed is None:
        return []
    kept = needed | frozenset(pinned)
    return [digest for digest in digests if digest not in kept and blobs.remove(digest)]
