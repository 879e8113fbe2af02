"""Manifests: `manifests/HOST/NAMESPACE/MODEL/TAG` says which blobs make up a model.

A manifest is written last and in one step, so a model is either whole or not there. The bytes are
kept as they came: their digest is the model's.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from corral_kernel.errors import (
    InvalidDigestError,
    InvalidModelError,
    InvalidNameError,
    ModelNotFoundError,
)
from corral_kernel.models import CONFIG_TYPE, FILE_TYPE, MANIFEST_TYPE, Layer, folder_key
from corral_kernel.names import ModelName, NameParts, parse_digest
from corral_kernel.store.files import (
    FOLDER_MODE,
    open_regular,
    replace_file,
    store_errors,
    sync_folder,
)

MAX_MANIFEST_BYTES = 4 << 20
_UNFINISHED_PREFIX = "."


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest says; digests are canonical."""

    config: Layer
    layers: tuple[Layer, ...]

    @property
    def digests(self) -> frozenset[str]:
        """Every blob that the manifest needs."""
        return frozenset(layer.digest for layer in (self.config, *self.layers) if layer.digest)

    @property
    def size_bytes(self) -> int:
        """Bytes of all layers and the config."""
        return sum(layer.size_bytes for layer in (self.config, *self.layers))

    @property
    def folder_key(self) -> str:
        """See `Model.folder_key`."""
        inside = (layer for layer in self.layers if layer.media_type == FILE_TYPE)
        return folder_key((layer.name, layer.digest) for layer in inside)


class StoredManifest(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest file."""

    name: ModelName
    raw: bytes
    modified_ns: int
    manifest: Manifest

    @property
    def digest(self) -> str:
        """64 hex digits: the digest of the file."""
        return hashlib.sha256(self.raw).hexdigest()


class _ManifestFile(msgspec.Struct):
    config: Layer | None = None
    layers: tuple[Layer, ...] | None = None


_decoder = msgspec.json.Decoder(_ManifestFile, strict=True)


def parse_manifest(raw: bytes) -> Manifest:
    """Read the JSON of a manifest.

    Raises:
        InvalidModelError: If it is none, or names a blob by no digest.
    """
    try:
        found = _decoder.decode(raw)
        layers = tuple(_checked(layer) for layer in found.layers or ())
        config = _checked(found.config) if found.config and found.config.digest else Layer()
    except (msgspec.MsgspecError, UnicodeDecodeError, InvalidDigestError) as error:
        raise InvalidModelError(f"the manifest is damaged: {error}") from error
    except RecursionError:
        raise InvalidModelError("the manifest is damaged: it is nested too deeply") from None
    return Manifest(config=config, layers=layers)


def _checked(layer: Layer) -> Layer:
    if layer.size_bytes < 0:
        raise InvalidModelError(f"the manifest is damaged: a layer of {layer.size_bytes} bytes")
    return msgspec.structs.replace(layer, digest=parse_digest(layer.digest))


def encode_manifest(config: Layer, layers: Iterable[Layer]) -> bytes:
    """Write a manifest as `create` does: compact, fields in order, with a final newline."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _entry(config),
        "layers": [_entry(layer) for layer in layers] or None,
    }
    return msgspec.json.encode(document) + b"\n"


def _entry(layer: Layer) -> dict[str, str | int]:
    entry: dict[str, str | int] = {
        "mediaType": layer.media_type or CONFIG_TYPE,
        "digest": layer.digest,
        "size": layer.size_bytes,
    }
    if layer.inherited_from:
        entry["from"] = layer.inherited_from
    if layer.name:
        entry["name"] = layer.name
    return entry


class Manifests:
    """The manifests of one store. Writers are kept apart by the store's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: ModelName) -> Path:
        """Where the manifest of a name lies, or would lie."""
        return self.folder.joinpath(*name.parts)

    def names(self) -> Iterator[ModelName]:
        """Every name that has a manifest; files elsewhere than four levels down are no models."""
        for host in _folders(self.folder):
            for namespace in _folders(host.path):
                for model in _folders(namespace.path):
                    for tag in _entries(model.path):
                        parts = NameParts(host.name, namespace.name, model.name, tag.name)
                        try:
                            name = ModelName.from_parts(parts)
                        except InvalidNameError:
                            continue
                        if _is_file(tag):
                            yield name

    def read(self, name: ModelName) -> StoredManifest:
        """Read the manifest of exactly this name.

        Raises:
            ModelNotFoundError: If there is none.
            InvalidModelError: If it is damaged.
            StoreError: If it cannot be read.
        """
        with store_errors(f"reading the manifest of {name.short}"):
            try:
                with open_regular(self.path(name)) as stream:
                    status = os.fstat(stream.fileno())
                    raw = stream.read(min(MAX_MANIFEST_BYTES + 1, status.st_size))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ModelNotFoundError(name.short) from None
        if len(raw) > MAX_MANIFEST_BYTES:
            raise InvalidModelError(
                f"the manifest of {name.short} is over {MAX_MANIFEST_BYTES} bytes"
            )
        manifest = parse_manifest(raw)
        return StoredManifest(name=name, raw=raw, modified_ns=status.st_mtime_ns, manifest=manifest)

    def write(self, name: ModelName, raw: bytes) -> None:
        """Put a manifest in its place in one step.

        Raises:
            StoreError: If it cannot be stored.
        """
        with store_errors(f"writing the manifest of {name.short}"):
            self.folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            replace_file(self.path(name), raw, self.folder, _UNFINISHED_PREFIX)

    def remove(self, name: ModelName) -> None:
        """Delete a manifest and the folders that are empty without it.

        Raises:
            ModelNotFoundError: If there is none.
            StoreError: If it cannot be deleted.
        """
        path = self.path(name)
        with store_errors(f"deleting the manifest of {name.short}"):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                raise ModelNotFoundError(name.short) from None
            sync_folder(path.parent)
            for folder in list(path.parents)[: len(name.parts)]:
                if not _remove_if_empty(folder):
                    break

    def remove_empty_folders(self) -> None:
        """Delete all folders that lead to no file."""
        for current, _, _ in os.walk(self.folder, topdown=False):
            _remove_if_empty(Path(current))


def _remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _folders(folder: Path | str) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(folder) if _is_dir(entry)]


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
