"""`models.lock`: which models there are to be, to the byte.

    models = lock_models(store, sources, names)
    text = dump(models)                     # TOML, in the order of the names
    models = parse(text)                    # InvalidLockError, in words
    models["smollm2:latest"].manifest       # "sha256:…"

Each model has its manifest's own bytes with it, so that nothing but blobs must be fetched, and
those by digest: what a registry calls by the name today makes no difference.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from corral_kernel.errors import (
    InvalidDigestError,
    InvalidLockError,
    InvalidModelError,
    InvalidNameError,
)
from corral_kernel.models import Layer
from corral_kernel.names import ModelName, NameParts, parse_digest
from corral_kernel.sources import Source, Sources
from corral_kernel.store import Store
from corral_kernel.store.blobs import digest_of
from corral_kernel.store.files import read_regular, reason_of
from corral_kernel.store.manifests import MAX_MANIFEST_BYTES, Manifest, parse_manifest

VERSION: Final = 1
MAX_BYTES: Final = 32 << 20
MAX_MODELS: Final = 10_000
_HEAD: Final = """\
# Written by 'corral lock'. 'corral pull --locked' fetches exactly these models,
# 'corral serve --locked' serves exactly these.
"""
_ADDRESS: Final = re.compile(r"[\x20-\x7e]{0,2048}")


class LockedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a lock.

    Args:
        name: What it is called here.
        source: The address that it is fetched from; empty: nobody knows one.
        registry: The registry that reads the address; for people.
        document: The manifest's own bytes.
    """

    name: ModelName
    source: str = ""
    registry: str = ""
    document: bytes

    @property
    def manifest(self) -> str:
        """The manifest's digest."""
        return digest_of(self.document)

    def read(self) -> Manifest:
        """Give what the manifest says.

        Raises:
            InvalidModelError: If it is none.
        """
        return parse_manifest(self.document)


def lock_models(store: Store, sources: Sources, names: Iterable[ModelName]) -> list[LockedModel]:
    """Take down models as they are now.

    Args:
        store: That has them.
        sources: Of which it is known where they came from.
        names: Which; none: all of the store's own.

    Raises:
        ModelNotFoundError: If one is not there.
        InvalidModelError: If one is damaged.
    """
    models = {}
    for name in list(names) or store.own_names():
        stored, _ = store.settle(name)
        found = sources.find(f"sha256:{stored.digest}") or Source()
        models[stored.name] = LockedModel(
            name=stored.name,
            source=found.address,
            registry=found.registry,
            document=stored.raw,
        )
    return list(models.values())


def dump(models: Iterable[LockedModel]) -> str:
    """Write a lock: the same models give the same text.

    Raises:
        InvalidModelError: If a manifest is damaged, or no text.
    """
    parts = [_HEAD, f"version = {VERSION}\n"]
    for model in sorted(models, key=lambda model: model.name):
        parts += ["\n", *_entry(model)]
    return "".join(parts)


def _entry(model: LockedModel) -> Iterable[str]:
    yield f"[models.{_quoted(model.name.short)}]\n"
    if model.source:
        yield f"source = {_quoted(model.source)}\n"
        yield f"registry = {_quoted(model.registry)}\n"
    yield f'manifest = "{model.manifest}"\n'
    yield "blobs = [\n"
    for layer in layers_of(model.read()):
        yield f'    {{ digest = "{layer.digest}", size = {layer.size_bytes} }},\n'
    yield "]\n"
    try:
        yield f"document = {_quoted(model.document.decode())}\n"
    except UnicodeDecodeError:
        raise InvalidModelError(f"the manifest of {model.name.short} is no text") from None


def _quoted(text: str) -> str:
    """Write a text as TOML has it: as JSON, but for one character that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def layers_of(manifest: Manifest) -> list[Layer]:
    """Give each blob of a manifest once, in its order; the config is the last."""
    found = {layer.digest: layer for layer in (*manifest.layers, manifest.config) if layer.digest}
    return list(found.values())


def read_lock(path: Path) -> Mapping[ModelName, LockedModel]:
    """Read a file that is a lock.

    Raises:
        InvalidLockError: If it cannot be read, or is none.
    """
    try:
        return parse(read_regular(path, MAX_BYTES + 1).decode())
    except OSError as error:
        raise InvalidLockError(f"open {path}: {reason_of(error)}") from None
    except UnicodeDecodeError as error:
        raise InvalidLockError(f"{path} is no text: {error}") from None
    except InvalidLockError as error:
        raise InvalidLockError(f"{path}: {error}") from None


def parse(text: str) -> Mapping[ModelName, LockedModel]:
    """Read a lock, whoever wrote it.

    Raises:
        InvalidLockError: If it is none, or its parts contradict each other.
    """
    if len(text) > MAX_BYTES:
        raise InvalidLockError(f"the lock is over {MAX_BYTES} characters long")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidLockError(f"the lock is no TOML: {why}") from None
    if document.get("version") != VERSION:
        raise InvalidLockError(
            f"the lock has version {document.get('version')!r:.50}, and this release reads "
            f"{VERSION}: write it anew with 'corral lock'"
        )
    entries = document.get("models", {})
    if not isinstance(entries, dict) or len(entries) > MAX_MODELS:
        raise InvalidLockError(f"the lock has no table 'models' of at most {MAX_MODELS} entries")
    models: dict[NameParts, LockedModel] = {}
    for name, entry in entries.items():
        model = _read(name, entry)
        if models.setdefault(model.name.folded, model) is not model:
            raise InvalidLockError(f"the lock has {model.name.short} twice")
    return {model.name: model for model in models.values()}


def _read(name: str, entry: Any) -> LockedModel:
    shown = name[:200]
    try:
        parsed = ModelName.parse(name)
    except InvalidNameError:
        raise InvalidLockError(f"the lock names {shown!r}, which is no model's name") from None
    if not isinstance(entry, dict):
        raise InvalidLockError(f"the lock's {shown} is no table")
    texts = {}
    for key in ("source", "registry", "manifest", "document"):
        texts[key] = entry.get(key, "")
        if not isinstance(texts[key], str):
            raise InvalidLockError(f"the lock's {shown} has a {key} that is no text")
    if not _ADDRESS.fullmatch(texts["source"]):
        raise InvalidLockError(f"the lock's {shown} has a source that is no address")
    model = LockedModel(
        name=parsed,
        source=texts["source"],
        registry=texts["registry"],
        document=texts["document"].encode("utf-8", "surrogatepass"),
    )
    _check(model, texts["manifest"], entry.get("blobs"))
    return model


def _check(model: LockedModel, digest: str, blobs: Any) -> None:
    """Make sure that all of an entry tells of one manifest."""
    short = model.name.short
    if not model.document or len(model.document) > MAX_MANIFEST_BYTES:
        raise InvalidLockError(f"the lock's {short} has no document: write it anew")
    if model.manifest != digest:
        raise InvalidLockError(
            f"the lock's {short} has a document with the digest {model.manifest}, and "
            f"{digest[:100]!r} as manifest: it was changed by hand; write it anew"
        )
    try:
        manifest = model.read()
    except InvalidModelError as error:
        raise InvalidLockError(f"the lock's {short}: {error}") from None
    if _sizes(blobs) != [(layer.digest, layer.size_bytes) for layer in layers_of(manifest)]:
        raise InvalidLockError(f"the lock's {short} has other blobs than its document names")


def _sizes(blobs: Any) -> list[tuple[str, int]] | None:
    try:
        return [(parse_digest(blob["digest"]), blob["size"]) for blob in blobs]
    except (TypeError, KeyError, InvalidDigestError):
        return None
