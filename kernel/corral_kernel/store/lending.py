"""Models that registry plugins lend: read in place, never written to."""

import logging
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from corral_kernel.errors import (
    CorralError,
    InvalidModelError,
    ModelNotFoundError,
    ReadOnlyModelError,
    StoreError,
)
from corral_kernel.folderlocks import FolderHold, hold_folder
from corral_kernel.gguf import GgufHeader
from corral_kernel.models import LentModel, Model, ModelFile
from corral_kernel.names import ModelName, parse_digest
from corral_kernel.store.blobs import Blobs
from corral_kernel.store.cache import DerivedCache, file_key
from corral_kernel.store.files import read_regular, reason_of, store_errors
from corral_kernel.store.folders import Folders
from corral_kernel.store.manifests import StoredManifest, parse_manifest
from corral_kernel.store.opening import BlobSource

_log = logging.getLogger(__name__)


class OwnSource(BlobSource):
    """The store's own blobs."""

    def __init__(self, blobs: Blobs, cache: DerivedCache, folders: Folders) -> None:
        self._blobs = blobs
        self._cache = cache
        self._folders = folders

    def read(self, digest: str, limit: int) -> bytes:
        """Read the beginning of a blob."""
        return read_regular(self._blobs.path(digest), limit)

    def path(self, digest: str) -> Path:
        """Where the blob is, or should be."""
        return self._blobs.path(digest)

    def folder(self, key: str) -> Path:
        """Where the files of a folder are laid out, or would be."""
        return self._folders.path(key)

    def header(self, digest: str) -> GgufHeader:
        """Read the head of a GGUF blob, from the cache if it is there."""
        key = parse_digest(digest).partition(":")[2]
        return self._cache.header(self._blobs.path(digest), key)


class LentSource(OwnSource):
    """A lender's files and contents; what it does not have, the store may."""

    def __init__(
        self, model: LentModel, blobs: Blobs, cache: DerivedCache, folders: Folders
    ) -> None:
        super().__init__(blobs, cache, folders)
        self.model = model
        self.owner, self.trusted, self.problem = model.owner, model.trusted, model.problem
        self._files = {parse_digest(digest): path for digest, path in model.blobs.items()}
        self._contents = {parse_digest(digest): data for digest, data in model.contents.items()}

    def read(self, digest: str, limit: int) -> bytes:
        """Read the beginning of a blob."""
        if digest in self._contents:
            return self._contents[digest][:limit]
        return read_regular(self.path(digest), limit)

    def path(self, digest: str) -> Path:
        """Where the lender's file is."""
        return self._files.get(digest) or super().path(digest)

    def paths(self) -> Collection[Path]:
        """The lender's files."""
        return self._files.values()

    def folder(self, key: str) -> Path:
        """Where the files of a folder lie already, or are laid out, or would be."""
        return self.model.folder or super().folder(key)

    def header(self, digest: str) -> GgufHeader:
        """Read the head of a GGUF file, cached by the file: its digest may not be verified."""
        path = self._files.get(digest)
        return super().header(digest) if path is None else self._cache.header(path, file_key(path))

    def verify(self, digest: str) -> None:
        """Make sure that a lent file has the digest that it is lent under.

        Raises:
            InvalidModelError: If it has not.
        """
        if path := self._files.get(digest):
            try:
                self._cache.verify(path, digest, self.owner)
            except OSError as error:
                raise InvalidModelError(
                    f"{path} of {self.owner} cannot be read ({reason_of(error)})"
                ) from error

    def give(self, digest: str, blobs: Blobs) -> bool:
        """Put a lent blob into the store.

        Returns:
            Whether it was not there before.

        Raises:
            InvalidModelError: If the lender's file is damaged or gone.
            StoreError: If it cannot be stored.
        """
        if blobs.touch(digest):
            return False
        if digest in self._contents:
            found, _ = blobs.add(self._contents[digest])
            if found != digest:
                raise InvalidModelError(f"{self.owner} lends {found} as {digest}: it is damaged")
            return True
        self.verify(digest)
        if path := self._files.get(digest):
            return blobs.link(path, digest)
        raise InvalidModelError(f"{self.owner} names {digest}, but does not lend it")


def check_size(file: ModelFile, owner: str) -> None:
    """Make sure that a lent file is one still, and has the size that it had.

    Raises:
        InvalidModelError: If it has not.
        OSError: If it is not there.
    """
    status = file.path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size != file.size_bytes:
        raise InvalidModelError(
            f"{file.path} of {owner} was changed: it has {status.st_size} bytes, not "
            f"{file.size_bytes}; ask again in a moment, when it has been looked at anew"
        )


def verify_lent(model: Model, blobs: Blobs, cache: DerivedCache) -> None:
    """Make sure that the files of a model that are not the store's are what they are lent as.

    Raises:
        InvalidModelError: If one is not.
        StoreError: If one cannot be read.
    """
    for file in model.files:
        if file.path != blobs.path(file.digest):
            try:
                if model.trusted:
                    check_size(file, model.owner)
                else:
                    cache.verify(file.path, file.digest, model.owner)
            except OSError as error:
                raise StoreError(f"open {file.path}: {reason_of(error)}") from error


def hold_in_place(model: Model) -> FolderHold:
    """Look at the files of a lent folder that is used where it lies.

    Raises:
        InvalidModelError: If one was changed.
        StoreError: If one is not there.
    """
    assert model.folder is not None
    with store_errors(f"looking at the files of {model.name.short}"):
        for file in model.folder_files:
            check_size(msgspec.structs.replace(file, path=model.folder / file.name), model.owner)
        if hold := hold_folder(model.folder):
            return hold
    raise StoreError(f"{model.folder} is gone: {model.owner} lent {model.name.short}")


class Lent(msgspec.Struct, frozen=True):
    """A lent model whose name and manifest are sound."""

    stored: StoredManifest
    source: LentSource


class Lending:
    """Asks for lent models; leaves out those that are not sound."""

    def __init__(
        self,
        ask: Callable[[], Sequence[LentModel]],
        blobs: Blobs,
        cache: DerivedCache,
        folders: Folders,
    ) -> None:
        self._ask = ask
        self._blobs = blobs
        self._cache = cache
        self._folders = folders
        self._read: dict[int, Lent] = {}  # by the identity of what was lent, which it keeps alive

    def models(self) -> Iterator[Lent]:
        """Every lent model, in the order of the plugins."""
        asked = self._ask()
        read = self._read
        if len(read) > 2 * len(asked):  # most are of models that are gone
            self._read = read = {}
        for model in asked:
            found = read.get(id(model))
            if found is None or found.source.model is not model:
                try:
                    found = read[id(model)] = self.read(model)
                except CorralError as error:
                    _log.warning("%s lends %r, left out: %s", model.owner, model.name[:100], error)
                    continue
            yield found

    def read(self, model: LentModel) -> Lent:
        """Check the name and the manifest of what is lent.

        Raises:
            CorralError: If one is not sound.
        """
        stored = StoredManifest(
            name=ModelName.parse(model.name),
            raw=model.manifest,
            modified_ns=model.modified_ns,
            manifest=parse_manifest(model.manifest),
        )
        return Lent(stored, LentSource(model, self._blobs, self._cache, self._folders))

    def cannot_delete(self, name: ModelName) -> CorralError:
        """Say why a model that the store has not cannot be deleted from it."""
        for lent in self.models():
            if lent.stored.name.same_as(name):
                return ReadOnlyModelError(
                    f"{lent.stored.name.short} is lent by {lent.source.owner} "
                    "and cannot be deleted here"
                )
        return ModelNotFoundError(name.short)
