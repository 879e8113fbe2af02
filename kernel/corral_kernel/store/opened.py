"""Models that were opened before, so that listing many of them opens few files."""

import threading

from corral_kernel.models import FILE_TYPE, Model, ModelFile
from corral_kernel.names import NameParts
from corral_kernel.store.manifests import StoredManifest
from corral_kernel.store.opening import BlobSource

_MAX_MODELS = 1024
# Of JSON, which takes some five times as much when decoded.
_MAX_DOCUMENT_BYTES = 16 << 20


class OpenedModels:
    """The latest used, within bounds. Any number of threads may use it."""

    def __init__(self) -> None:
        self._models: dict[NameParts, Model] = {}  # the last is the latest used
        self._document_bytes = 0
        self._lock = threading.Lock()

    def find(self, stored: StoredManifest, source: BlobSource) -> Model | None:
        """Give a model if all is as it was when it was opened."""
        model = self._models.get(stored.name.parts)
        return model if model and _is_current(model, stored, source) else None

    def put(self, model: Model) -> None:
        """Keep a model; it is the latest used."""
        with self._lock:
            self._drop(model.name.parts)
            self._models[model.name.parts] = model
            self._document_bytes += _document_bytes(model)
            while len(self._models) > _MAX_MODELS or self._document_bytes > _MAX_DOCUMENT_BYTES:
                self._drop(next(iter(self._models)))

    def drop(self, parts: NameParts) -> None:
        """Forget a model that is gone."""
        with self._lock:
            self._drop(parts)

    def _drop(self, parts: NameParts) -> None:
        if (model := self._models.pop(parts, None)) is not None:
            self._document_bytes -= _document_bytes(model)


def _document_bytes(model: Model) -> int:
    return sum(file.size_bytes for file in model.folder_files if file.name in model.documents)


def _is_current(model: Model, stored: StoredManifest, source: BlobSource) -> bool:
    return (
        not model.problem
        and not model.missing
        and model.owner == source.owner
        and model.modified_ns == stored.modified_ns
        and model.digest == stored.digest
        and all(_is_same(file, model, source) for file in model.files)
    )


def _is_same(file: ModelFile, model: Model, source: BlobSource) -> bool:
    if file.path != source.path(file.digest):
        return False
    try:
        size_bytes = file.path.stat().st_size
    except OSError:
        return False
    if file.media_type == FILE_TYPE:
        return size_bytes == file.size_bytes
    return model.gguf is None or file is not model.weights or size_bytes == model.gguf.size_bytes
