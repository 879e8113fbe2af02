"""From a manifest and its blobs to a `Model`."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from corral_kernel.errors import (
    InvalidModelError,
    InvalidRequestError,
    ModelNotFoundError,
    StoreError,
)
from corral_kernel.foldernames import check_folder_names
from corral_kernel.gguf import GgufHeader
from corral_kernel.models import (
    ADAPTER_TYPE,
    DRAFT_TYPE,
    FILE_TYPE,
    HEAD_BYTES,
    LEGACY_MAGICS,
    LICENSE_TYPE,
    MESSAGES_TYPE,
    PARAMETERS_TYPE,
    PROJECTOR_TYPE,
    PROMPT_TYPE,
    SYSTEM_TYPE,
    TEMPLATE_TYPE,
    WEIGHTS_TYPE,
    Layer,
    Model,
    ModelConfig,
    ModelFile,
    folder_key,
)
from corral_kernel.names import ModelName
from corral_kernel.store.documents import FolderTexts, read_texts
from corral_kernel.store.files import reason_of
from corral_kernel.store.manifests import StoredManifest

# All texts of one model together: template, system, licences, parameters, messages, config.
_MAX_TEXT_BYTES = 16 << 20
_T = TypeVar("_T")
_FILE_TYPES = frozenset({WEIGHTS_TYPE, DRAFT_TYPE, ADAPTER_TYPE, PROJECTOR_TYPE, FILE_TYPE})

_config_decoder = msgspec.json.Decoder(ModelConfig)
_parameters_decoder = msgspec.json.Decoder(dict[str, Any] | None)
_messages_decoder = msgspec.json.Decoder(tuple[dict[str, Any], ...] | None)


class BlobSource:
    """Where the blobs of one model are; the store's own, or a lender's."""

    owner = ""
    trusted = False  # see `LentModel`, as for the next
    problem = ""

    def read(self, digest: str, limit: int) -> bytes:
        """Read a small blob, at most `limit` bytes of it.

        Raises:
            FileNotFoundError: If it is not there.
        """
        raise NotImplementedError

    def path(self, digest: str) -> Path:
        """Where the file of a blob is, or should be."""
        raise NotImplementedError

    def folder(self, key: str) -> Path:
        """Where the files of a folder are laid out, or would be; see `Model.folder_key`."""
        raise NotImplementedError

    def header(self, digest: str) -> GgufHeader:
        """Read the head of a GGUF blob.

        Raises:
            InvalidModelError: If it has no sound head.
            OSError: If it cannot be read.
        """
        raise NotImplementedError


def open_model(stored: StoredManifest, source: BlobSource) -> Model:
    """Gather all that is known of a model without loading it.

    Weights that are missing or damaged make `Model.problem`, not an error: the model can still be
    listed, shown and deleted.

    Raises:
        ModelNotFoundError: If a blob that is not a model file is missing.
        InvalidModelError: If such a blob is damaged.
    """
    manifest = stored.manifest
    files = tuple(_file(layer, source) for layer in manifest.layers if _is_file(layer))
    sizes = {file.digest: _size(file.path) for file in files}
    found = {**_folder(files, source, sizes), **_weights(files, source)}
    if source.problem:
        found["problem"] = source.problem
    return Model(
        name=stored.name,
        digest=stored.digest,
        size_bytes=manifest.size_bytes,
        modified_ns=stored.modified_ns,
        files=files,
        missing=tuple(file.digest for file in files if sizes[file.digest] is None),
        owner=source.owner,
        trusted=source.trusted,
        **found,
        **_Texts(stored.name, source).gather(manifest.config, manifest.layers),
    )


def _is_file(layer: Layer) -> bool:
    return layer.media_type in _FILE_TYPES


def _file(layer: Layer, source: BlobSource) -> ModelFile:
    return ModelFile(
        media_type=layer.media_type,
        digest=layer.digest,
        size_bytes=layer.size_bytes,
        path=source.path(layer.digest),
        name=layer.name,
        inherited_from=layer.inherited_from,
    )


def _size(path: Path) -> int | None:
    """Bytes of a regular file; `None` if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _weights(files: tuple[ModelFile, ...], source: BlobSource) -> dict[str, Any]:
    """What a file of weights says, as fields of a `Model`; none without such a file."""
    weights = next((file for file in files if file.media_type == WEIGHTS_TYPE), None)
    if weights is None:
        return {}
    head = b""
    try:
        head = read_head(weights.path)
        header = None if head.startswith(LEGACY_MAGICS) else source.header(weights.digest)
    except InvalidModelError as error:
        return {"head": head, "problem": str(error)}
    except OSError as error:
        return {"problem": f"open {weights.path}: {reason_of(error)}"}
    return {"head": head, "gguf": header}


def read_head(path: Path) -> bytes:
    """Read the first bytes of a file, which tell its format.

    Raises:
        OSError: If it cannot be read.
    """
    # Not blocking: a named pipe in a model's place would never open.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)


def _folder(
    files: tuple[ModelFile, ...], source: BlobSource, sizes: dict[str, int | None]
) -> dict[str, Any]:
    """What a folder's small files say, as fields of a `Model`; none if it is no folder."""
    inside = [file for file in files if file.media_type == FILE_TYPE]
    if not inside:
        return {}
    texts = FolderTexts(problem=_fault_of_files(inside, sizes))
    if not texts.problem:
        try:
            texts = read_texts(inside, source.read)
        except OSError as error:
            texts = FolderTexts(problem=f"reading its files: {reason_of(error)}")
    return {
        "documents": texts.documents,
        "folder_template": texts.template,
        "folder": source.folder(folder_key((file.name, file.digest) for file in inside)),
        "problem": texts.problem,
    }


def _fault_of_files(inside: Sequence[ModelFile], sizes: dict[str, int | None]) -> str:
    """Say what keeps files from being laid out as a folder; empty: nothing."""
    try:
        check_folder_names([file.name for file in inside])
    except InvalidRequestError as error:
        return f"the manifest is damaged: {error}"
    for file in inside:
        size_bytes = sizes[file.digest]
        if size_bytes is None:
            return f"{file.name} is missing: {file.path} is not there; create the model again"
        if size_bytes != file.size_bytes:
            return (
                f"{file.name} is damaged: {file.path} has {size_bytes} bytes, not "
                f"{file.size_bytes}; create the model again"
            )
    return ""


class _Texts:
    """Reads the small blobs of one model, bounded all together."""

    def __init__(self, name: ModelName, source: BlobSource) -> None:
        self._name = name
        self._source = source
        self._left = _MAX_TEXT_BYTES
        # What each media type does to the fields gathered so far. Unknown types do nothing.
        self._steps: dict[str, Callable[[dict[str, Any], bytes], None]] = {
            TEMPLATE_TYPE: lambda fields, raw: fields.update(template=_text(raw)),
            PROMPT_TYPE: lambda fields, raw: fields.update(template=_text(raw)),
            SYSTEM_TYPE: lambda fields, raw: fields.update(system=_text(raw)),
            LICENSE_TYPE: lambda fields, raw: fields["licenses"].append(_text(raw)),
            PARAMETERS_TYPE: lambda fields, raw: fields.update(
                parameters=self._decode(_parameters_decoder, raw, "parameters") or {}
            ),
            MESSAGES_TYPE: lambda fields, raw: fields.update(
                messages=self._decode(_messages_decoder, raw, "messages") or ()
            ),
        }

    def gather(self, config: Layer, layers: tuple[Layer, ...]) -> dict[str, Any]:
        fields: dict[str, Any] = {"config": ModelConfig(), "licenses": []}
        if config.digest:
            fields["config"] = self._decode(_config_decoder, self._read(config.digest), "config")
        for layer in layers:
            if step := self._steps.get(layer.media_type):
                step(fields, self._read(layer.digest))
        fields["licenses"] = tuple(fields["licenses"])
        return fields

    def _read(self, digest: str) -> bytes:
        try:
            raw = self._source.read(digest, self._left + 1)
        except FileNotFoundError:
            raise ModelNotFoundError(self._name.short) from None
        except OSError as error:
            path = self._source.path(digest)
            raise StoreError(f"open {path}: {reason_of(error)}") from error
        self._left -= len(raw)
        if self._left < 0:
            raise InvalidModelError(
                f"the texts of {self._name.short} are over {_MAX_TEXT_BYTES} bytes"
            )
        return raw

    def _decode(self, decoder: msgspec.json.Decoder[_T], raw: bytes, what: str) -> _T:
        try:
            return decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidModelError(
                f"the {what} of {self._name.short} are damaged: {error}"
            ) from error
        except RecursionError:
            raise InvalidModelError(
                f"the {what} of {self._name.short} are damaged: they are nested too deeply"
            ) from None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
