"""Another store in Ollama's layout: its manifests as they are, over its blobs."""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from corral_folders.walk import Notes, is_folder
from corral_kernel.errors import CorralError, InvalidModelError
from corral_kernel.models import LentModel
from corral_kernel.names import ModelName, blob_filename
from corral_kernel.store.files import reason_of
from corral_kernel.store.manifests import Manifests, StoredManifest

MAX_MODELS: Final = 2000

_Key = tuple[str, int, tuple[int, ...]]


def is_store(folder: Path) -> bool:
    """Whether a folder is such a store."""
    return is_folder(folder / "manifests") and is_folder(folder / "blobs")


class OllamaStore:
    """The models of one such store, read anew only where something changed.

    Args:
        root: Of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept: dict[ModelName, tuple[_Key, LentModel]] = {}

    def models(self, notes: Notes) -> Iterator[LentModel]:
        """Give the models; of those that are damaged it is said why they are left out."""
        manifests = Manifests(self.root / "manifests")
        before, self._kept = self._kept, {}
        for name in self._names(manifests, notes):
            try:
                _check(manifests.path(name))
                stored = manifests.read(name)
                blobs, sizes = self._blobs(stored)
            except (CorralError, OSError) as error:
                notes.say(f"{name.short} of {self.root}: {error}")
                continue
            key = (stored.digest, stored.modified_ns, sizes)
            known = before.get(name)
            kept = known if known and known[0] == key else (key, self._lend(stored, blobs))
            self._kept[name] = kept
            yield kept[1]

    def _names(self, manifests: Manifests, notes: Notes) -> list[ModelName]:
        try:
            names = list(islice(manifests.names(), MAX_MODELS + 1))
        except OSError as error:
            notes.say(f"{self.root} cannot be read: {reason_of(error)}")
            return []
        if len(names) > MAX_MODELS:
            notes.say(f"{self.root} holds over {MAX_MODELS} models: the rest is left out")
        return names[:MAX_MODELS]

    def _blobs(self, stored: StoredManifest) -> tuple[dict[str, Path], tuple[int, ...]]:
        found: dict[str, Path] = {}
        sizes = []
        for digest in sorted(stored.manifest.digests):
            path = self.root / "blobs" / blob_filename(digest)
            found[digest] = path
            sizes.append(_check(path).st_size)
        return found, tuple(sizes)

    def _lend(self, stored: StoredManifest, blobs: dict[str, Path]) -> LentModel:
        return LentModel(
            name=stored.name.full,
            manifest=stored.raw,
            blobs=blobs,
            modified_ns=stored.modified_ns,
            owner=f"the store {self.root} (with Ollama: ollama rm {stored.name.short})",
            trusted=True,
        )


def _check(path: Path) -> os.stat_result:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise InvalidModelError(f"{path} is no file of its own: it is left out")
    return status
