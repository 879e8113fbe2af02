"""The store itself: which models there are, and the few ways to change that."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from corral_kernel.errors import (
    CorralError,
    InvalidModelError,
    ModelNotFoundError,
    StoreError,
)
from corral_kernel.folderlocks import FolderHold
from corral_kernel.gguf import GgufHeader
from corral_kernel.models import LentModel, Model, ModelFile
from corral_kernel.names import ModelName
from corral_kernel.store.blobs import Blobs
from corral_kernel.store.cache import DerivedCache, file_key
from corral_kernel.store.files import free_bytes, reason_of, store_errors
from corral_kernel.store.folders import Folders
from corral_kernel.store.garbage import GarbageReport, Parts, Wish, collect
from corral_kernel.store.keeping import Keeping
from corral_kernel.store.lending import (
    Lending,
    LentSource,
    OwnSource,
    hold_in_place,
    verify_lent,
)
from corral_kernel.store.locks import LOCK_FILE, StoreLocks
from corral_kernel.store.manifests import Manifest, Manifests, StoredManifest, parse_manifest
from corral_kernel.store.opened import OpenedModels
from corral_kernel.store.opening import BlobSource, open_model
from corral_kernel.store.prune import (
    needed_folders,
    prune,
    remove_models,
    rename_legacy_blobs,
    sweep_writers,
)
from corral_kernel.store.workshops import Workshops

_log = logging.getLogger(__name__)


def lend_nothing() -> Sequence[LentModel]:
    """Stand for the registries where there are none."""
    return ()


class Store:
    """A folder of models. Threads may share one store; processes may share the folder.

    Args:
        root: Holds `manifests/` and `blobs/`; made when something is first written.
        cache_dir: Where facts derived from blobs are kept; may be deleted at any time.
        prune: Whether blobs that nobody needs are deleted at the start and when a model changes.
        lent: Gives the models that registry plugins lend in place; asked anew each time.
    """

    def __init__(
        self,
        root: Path,
        cache_dir: Path,
        *,
        prune: bool = True,
        lent: Callable[[], Sequence[LentModel]] = lend_nothing,
    ) -> None:
        self.root = root
        self.blobs = Blobs(root / "blobs")
        self.prunes = prune
        self._manifests = Manifests(root / "manifests")
        self._cache = DerivedCache(cache_dir)
        # Beside the blobs, where hard links to them are possible, if that can be written to.
        self._folders = Folders(root / "folders", cache_dir / "folders")
        self.workshops = Workshops(root / "making")
        self._own = OwnSource(self.blobs, self._cache, self._folders)
        self._lending = Lending(lent, self.blobs, self._cache, self._folders)
        self._locks = StoreLocks(root / LOCK_FILE)
        self._keeping = Keeping(
            self.blobs, self._manifests, self._locks, self._cache.forget, prunes=prune
        )
        self._opened = OpenedModels()

    def start_up(self) -> None:
        """Clean up after crashes and old releases. Call once, before the first request.

        Raises:
            StoreError: If the folder cannot be used.
        """
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is no folder: set CORRAL_MODELS (OLLAMA_MODELS) to one")
        with self._locks.changing(), store_errors(f"opening the store {self.root}"):
            rename_legacy_blobs(self.blobs)
            sweep_writers(self.blobs, self._manifests)
            remove_models(self.workshops.abandoned(), self._manifests)
            self.workshops.sweep()
            if self.prunes and (removed := prune(self.blobs, self._manifests, self._locks)):
                _log.info("deleted %d unused files from %s", len(removed), self.blobs.folder)
            self._folders.sweep(self._needed_folders)
            self._cache.sweep()

    def close(self) -> None:
        """Let go of what other servers on the store see; call it when all work is over."""
        self._locks.close()

    # --- reading -------------------------------------------------------------------------------

    def resolve(self, name: ModelName) -> ModelName:
        """Spell a name as existing models do, so that letter case never makes a second model."""
        lent = (model.stored.name for model in self._lending.models())
        return name.spelled_like([*self._manifests.names(), *lent])

    def find(self, name: ModelName, *, exact: bool = False) -> tuple[StoredManifest, BlobSource]:
        """Find the manifest of a name, and where its blobs are.

        Args:
            name: Looked for among the store's own models first, then among the lent ones.
            exact: Mind the letter case.

        Raises:
            ModelNotFoundError: If there is no such model.
            InvalidModelError: If its manifest is damaged.
            StoreError: If it cannot be read.
        """
        with contextlib.suppress(ModelNotFoundError):
            return self._manifests.read(name), self._own
        if not exact:
            spelled = name.spelled_like(self._manifests.names())
            with contextlib.suppress(ModelNotFoundError):
                return self._manifests.read(spelled), self._own
        for lent in self._lending.models():
            found = lent.stored.name
            if found.parts == name.parts or (not exact and found.same_as(name)):
                return lent.stored, lent.source
        raise ModelNotFoundError(name.short)

    def settle(self, name: ModelName) -> tuple[StoredManifest, BlobSource]:
        """Find a model to be copied, built upon or pushed: its digests are true.

        A lender may not know those of its files yet, which are read now.

        Raises:
            ModelNotFoundError: If there is no such model.
            InvalidModelError: If its manifest is damaged, or a lent file is.
            StoreError: If it cannot be read.
        """
        stored, source = self.find(name)
        if isinstance(source, LentSource) and source.model.settle is not None:
            with store_errors(f"reading {name.short}"):
                lent = self._lending.read(source.model.settle())
            return lent.stored, lent.source
        return stored, source

    def own_names(self) -> list[ModelName]:
        """Names of the store's own models, those that cannot be read too."""
        return list(self._manifests.names())

    def manifest_path(self, name: ModelName) -> Path:
        """Where the manifest of a model of the store's own lies, or would lie."""
        return self._manifests.path(name)

    def open(self, name: ModelName, *, exact: bool = False) -> Model:
        """Give all that is known of a model without loading it.

        Weights that are missing or damaged are told by `Model.missing` and `Model.problem`.

        Raises:
            ModelNotFoundError: If there is no such model, or a small blob of it is missing.
            InvalidModelError: If its manifest or a small blob is damaged.
            StoreError: If it cannot be read.
        """
        return self._open(*self.find(name, exact=exact))

    def list_models(self) -> list[Model]:
        """Give all models, the newest first; those that cannot be read are left out."""
        models: dict[ModelName, Model] = {}
        for name in self._manifests.names():
            with contextlib.suppress(CorralError):
                models[name] = self._open(self._manifests.read(name), self._own)
        own = {name.folded for name in models}
        for lent in self._lending.models():
            if lent.stored.name.folded not in own:
                with contextlib.suppress(CorralError):
                    models.setdefault(lent.stored.name, self._open(lent.stored, lent.source))
        second_ns = 10**9
        return sorted(models.values(), key=lambda m: (-(m.modified_ns // second_ns), m.name))

    def header(self, file: ModelFile) -> GgufHeader:
        """Read the head of a GGUF file of some model.

        Raises:
            InvalidModelError: If it has no sound head.
            StoreError: If it is missing or cannot be read.
        """
        try:
            if file.path == self.blobs.path(file.digest):
                return self._own.header(file.digest)
            return self._cache.header(file.path, file_key(file.path))
        except OSError as error:
            raise StoreError(f"open {file.path}: {reason_of(error)}") from error

    def verify(self, model: Model) -> None:
        """Make sure, before a model is loaded, that lent files have the digests that they claim.

        The first time this reads the files from end to end; the outcome is remembered.

        Raises:
            InvalidModelError: If one has not.
            StoreError: If one cannot be read.
        """
        verify_lent(model, self.blobs, self._cache)

    def lay_out(self, model: Model) -> FolderHold:
        """Lay the files of a model that is a folder out in `model.folder`, before it is loaded.

        Returns:
            What keeps the folder there. A worker that loads the model holds it by itself.

        Raises:
            InvalidModelError: If a file is damaged.
            StoreError: If a file is missing, or the folder cannot be made.
        """
        if model.owner and model.folder != self._folders.path(model.folder_key):
            return hold_in_place(model)
        return self._folders.lay_out(model)

    def _open(self, stored: StoredManifest, source: BlobSource) -> Model:
        model = self._opened.find(stored, source) or open_model(stored, source)
        self._opened.put(model)
        return model

    # --- changing ------------------------------------------------------------------------------

    def check_changes(self) -> None:
        """Raise if no model of this store is to be changed; any may be."""

    def copy(self, source: ModelName, destination: ModelName) -> None:
        """Give a model a second name; blobs of a lent model are linked into the store.

        Raises:
            ModelNotFoundError: If `source` does not exist.
            InvalidModelError: If it is damaged.
            StoreError: If the copy cannot be stored.
        """
        self.check_changes()
        stored, blobs = self.settle(source)
        target = self.resolve(destination)
        if target.same_as(stored.name):
            return
        with self.pinning() as pin:
            pin(stored.manifest.digests)
            self.adopt(stored, blobs)
            self.publish(target, stored.raw)

    def delete(self, name: ModelName) -> None:
        """Delete a model, and those of its blobs that no other model needs.

        Raises:
            ModelNotFoundError: If there is no such model.
            ReadOnlyModelError: If it is lent: the message names the owner.
            StoreError: If it cannot be deleted.
        """
        self.check_changes()
        with self._locks.changing():
            target = name.spelled_like(self._manifests.names())
            before: Manifest | None = None
            try:
                before = self._manifests.read(target).manifest
            except InvalidModelError:
                pass  # nobody knows what it needs: the next clean-up will
            except ModelNotFoundError:
                raise self._lending.cannot_delete(name) from None
            self._manifests.remove(target)
            self._opened.drop(target.parts)
            if before is not None:
                self._remove_folder(before)
                self._keeping.discard(before.digests)

    def publish(self, name: ModelName, raw: bytes) -> ModelName:
        """Put a manifest in its place; from then on the model exists.

        Unless the store never prunes, blobs that only the replaced manifest needed are deleted.

        Args:
            name: Spelled as existing models are, whatever its case.
            raw: The manifest's bytes, which are kept as they are.

        Returns:
            The name as it is spelled in the store.

        Raises:
            InvalidModelError: If `raw` is no manifest.
            StoreError: If it cannot be stored.
        """
        self.check_changes()
        needed = parse_manifest(raw).digests
        with self._locks.changing():
            target = self.resolve(name)
            before: Manifest | None = None
            with contextlib.suppress(CorralError):
                before = self._manifests.read(target).manifest
            self._manifests.write(target, raw)
            if before is not None:
                self._remove_folder(before)
            if before is not None and self.prunes:
                self._keeping.discard(before.digests - needed)
        return target

    def adopt(self, stored: StoredManifest, source: BlobSource) -> list[str]:
        """Make sure that the store itself holds the blobs of a model that is found here.

        Returns:
            Digests of the blobs that were not there before.

        Raises:
            InvalidModelError: If a lender's file is damaged.
            StoreError: If a blob cannot be stored.
        """
        if not isinstance(source, LentSource):
            for digest in stored.manifest.digests:
                self.blobs.touch(digest)
            return []
        return [d for d in sorted(stored.manifest.digests) if source.give(d, self.blobs)]

    def pinning(self) -> contextlib.AbstractContextManager[Callable[[Iterable[str]], None]]:
        """Keep blobs from being deleted while work that will need them is under way.

        Gives a function that pins digests; all are let go at the end. Other servers on the store
        leave the blobs alone too.
        """
        return self._keeping.pinning()

    def use(self, model: Model) -> Callable[[], None]:
        """Keep the files of a model while a worker has them, whatever becomes of its name.

        Returns:
            What lets them go: those that no model needs by then are deleted. To be called once.

        Raises:
            StoreError: If another server is deleting one just now, and takes too long.
        """
        return self._keeping.use(model)

    def check_room(self, needed_bytes: int) -> None:
        """Make sure that so much fits on the disk.

        Raises:
            StoreError: If it does not, or if there is no telling.
        """
        with store_errors(f"looking for room in {self.root}"):
            free = free_bytes(self.root)
        if needed_bytes > free:
            raise StoreError(
                f"not enough room: {needed_bytes} bytes are needed, and {self.root} has {free} "
                "left; free some space, or set CORRAL_MODELS to a folder on another disk"
            )

    def discard(self, digests: Iterable[str]) -> None:
        """Delete those of some blobs that nobody needs: the leavings of work that failed."""
        self._keeping.discard(digests)

    def collect_garbage(self, wish: Wish) -> GarbageReport:
        """Delete what nobody needs, or tell what that is.

        Raises:
            InvalidModelError: If a manifest is damaged: nobody knows what it needs.
            StoreError: If another process keeps the store locked.
        """
        parts = Parts(
            blobs=self.blobs,
            manifests=self._manifests,
            locks=self._locks,
            folders=self._folders,
            workshops=self.workshops,
            cache=self._cache,
            needed_folders=self._needed_folders,
            lent_files=lambda: (p for m in self._lending.models() for p in m.source.paths()),
        )
        return collect(parts, wish)

    def _remove_folder(self, manifest: Manifest) -> None:
        """Remove the folder that was laid out for a model that is gone, when nobody runs it."""
        if key := manifest.folder_key:
            self._folders.remove_when_unused(key, lambda: self._is_unneeded(key))

    def _is_unneeded(self, key: str) -> bool:
        with self._locks.changing():
            needed = self._needed_folders()
        return needed is not None and key not in needed

    def _needed_folders(self) -> frozenset[str] | None:
        """Every key of a folder that some model needs; `None` if nobody can tell."""
        lent = (model.stored.manifest for model in self._lending.models())
        return needed_folders(self._manifests, lent)
