"""Puts the layers of a model together: what `create_model` does, step by step."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from corral_kernel.errors import (
    InvalidDigestError,
    InvalidModelError,
    InvalidRequestError,
    ManifestNotFoundError,
    ModelNotFoundError,
    NotGgufError,
    StoreError,
    UnsupportedError,
)
from corral_kernel.gguf import MAGIC, GgufHeader
from corral_kernel.models import (
    ADAPTER_TYPE,
    CONFIG_TYPE,
    FILE_TYPE,
    LEGACY_MAGICS,
    LICENSE_TYPE,
    MESSAGES_TYPE,
    PARAMETERS_TYPE,
    PROMPT_TYPE,
    SYSTEM_TYPE,
    TEMPLATE_TYPE,
    UNKNOWN,
    WEIGHTS_TYPE,
    Layer,
    ModelConfig,
    ModelFile,
    parameter_size_text,
    stored_file_type,
)
from corral_kernel.names import ModelName, parse_digest
from corral_kernel.store.blobs import digest_of
from corral_kernel.store.documents import folder_config, read_texts
from corral_kernel.store.files import open_regular
from corral_kernel.store.govalues import go_json, sorted_keys
from corral_kernel.store.manifests import encode_manifest
from corral_kernel.store.opening import read_head
from corral_kernel.store.requests import CreateRequest, Progress, source_kind
from corral_kernel.store.store import Store

# The identifier that stands in the FlatBuffers of ONNX Runtime's adapters, and where.
_ONNX_ADAPTER = b"TORT"
_ONNX_ADAPTER_AT = slice(4, 8)
_LONGEST_FAMILY = 80
_SAID = (
    "model_format",
    "model_family",
    "model_type",
    "file_type",
    "context_length",
    "embedding_length",
)
_MESSAGE_KEYS = ("thinking", "images", "tool_calls", "tool_name", "tool_call_id")


class Assembly:
    """The layers of a model that is being made."""

    def __init__(self, store: Store, pin: Callable[[Iterable[str]], None], made: list[str]) -> None:
        self._store = store
        self._pin = pin
        self._made = made  # digests of blobs that were not there before
        self.layers: list[Layer] = []
        self._said = ModelConfig()  # what the weights, or the base, say of themselves
        self._parameters: dict[str, Any] = {}

    # --- where the weights come from -------------------------------------------------------------

    def inherit(self, base: ModelName, config: ModelConfig) -> tuple[ModelConfig, dict[str, Any]]:
        """Take over all layers of another model.

        Returns:
            The config with what is inherited, and the parameters of the base.
        """
        try:
            stored, source = self._store.settle(base)
            model = self._store.open(base)
        except ModelNotFoundError:
            raise ManifestNotFoundError(
                f"there is no model {base.short} here: "
                "pull it first, or name a model that is listed, or a GGUF file"
            ) from None
        if model.format == "safetensors":
            raise UnsupportedError(
                f"{base.short} is made of safetensors files, which this release cannot build upon: "
                "name a GGUF model"
            )
        if model.folder_files and model.problem:
            raise InvalidModelError(f"{base.short}: {model.problem}")
        self._pin(stored.manifest.digests)
        self._made += self._store.adopt(stored, source)
        headers = []
        for layer in stored.manifest.layers:
            self._require(layer.digest)
            if layer.media_type == WEIGHTS_TYPE and not model.head.startswith(LEGACY_MAGICS):
                headers.append(self._header(layer))
            self.layers.append(msgspec.structs.replace(layer, inherited_from=stored.name.short))
        self._said = _of_headers(headers) if headers else model.config
        kept = ["model_format", "renderer", "parser", "requires", "capabilities"]
        kept += ["remote_host", "remote_model"]
        inherited = {
            field: getattr(config, field) or getattr(model.config, field) for field in kept
        }
        return msgspec.structs.replace(config, **inherited), dict(model.parameters)

    def add_files(self, files: Mapping[str, str]) -> Generator[Progress, None, None]:
        """Add uploaded files: GGUF, sorted by name; a folder; or one of a format before GGUF."""
        kind = source_kind(files)
        if kind == "folder":
            self._add_folder(files)
            yield Progress("parsing ONNX model")
        elif kind == "safetensors":
            raise UnsupportedError(
                "importing safetensors files is not supported by this release: "
                "convert the model to GGUF first"
            )
        elif kind is None and self._is_legacy(files):
            self._add_legacy(files)
            yield Progress("parsing GGML")
        elif kind is None and not any(self._begins(d, MAGIC) for d in files.values()):
            raise InvalidRequestError("unknown type")
        else:
            yield from self._add_ggufs(files)

    def _add_ggufs(self, files: Mapping[str, str]) -> Generator[Progress, None, None]:
        headers = []
        for file_name, digest in sorted(files.items()):
            yield Progress("parsing GGUF")
            layer, header = self._gguf_layer(file_name, digest)
            if layer.media_type == WEIGHTS_TYPE:
                headers.append(header)
            self.layers.append(layer)
        if not headers:
            raise InvalidRequestError("no base model was found")
        if len(headers) > 1:
            raise UnsupportedError("several files of weights cannot make one model: send one")
        self._said = _of_headers(headers)

    def _add_folder(self, files: Mapping[str, str]) -> None:
        """Add the files of a folder, whose names are checked already."""
        for name, digest in sorted(files.items()):
            self.layers.append(self._layer(FILE_TYPE, digest, name=name))
        inside = [self._file(layer) for layer in self.layers]
        self._said = folder_config(read_texts(inside, self._read), files)

    def _is_legacy(self, files: Mapping[str, str]) -> bool:
        return len(files) == 1 and all(self._begins(d, *LEGACY_MAGICS) for d in files.values())

    def _add_legacy(self, files: Mapping[str, str]) -> None:
        for file_name, digest in files.items():
            self.layers.append(self._layer(WEIGHTS_TYPE, digest, inherited_from=file_name))
        self._said = ModelConfig(model_format="ggml", file_type=UNKNOWN)

    def add_adapter(self, adapters: Mapping[str, str]) -> Generator[Progress, None, None]:
        """Add an uploaded LoRA adapter behind those of the base."""
        if source_kind(adapters) == "safetensors":
            raise UnsupportedError(
                "importing safetensors adapters is not supported by this release: "
                "convert the adapter to GGUF first"
            )
        if len(adapters) > 1:
            raise InvalidRequestError("only one adapter is currently supported")
        for file_name, digest in adapters.items():
            is_onnx = self._said.model_format == "onnx"
            yield Progress("parsing ONNX adapter" if is_onnx else "parsing GGUF")
            try:
                layer = self._adapter_layer(file_name, digest, is_onnx=is_onnx)
            except (StoreError, InvalidModelError) as error:
                raise InvalidRequestError(f"adapter {file_name!r}: {error}") from error
            self.layers.append(layer)

    def _adapter_layer(self, file_name: str, digest: str, *, is_onnx: bool) -> Layer:
        if is_onnx:
            layer = self._layer(ADAPTER_TYPE, digest, inherited_from=file_name)
            if read_head(self._store.blobs.path(layer.digest))[_ONNX_ADAPTER_AT] != _ONNX_ADAPTER:
                raise InvalidRequestError(
                    f"adapter {file_name!r} is no .onnx_adapter file, which ONNX models take"
                )
            return layer
        layer, _ = self._gguf_layer(file_name, digest)
        if layer.media_type != ADAPTER_TYPE:
            raise InvalidRequestError(
                f"adapter {file_name!r} is no adapter: its general.type is not 'adapter'"
            )
        return layer

    def _begins(self, digest: str, *magics: bytes) -> bool:
        return read_head(self._store.blobs.path(self._require(digest))).startswith(magics)

    def _gguf_layer(self, file_name: str, digest: str) -> tuple[Layer, GgufHeader]:
        layer = self._layer(WEIGHTS_TYPE, digest, inherited_from=file_name)
        try:
            header = self._header(layer)
        except NotGgufError:
            raise InvalidRequestError("supplied file was not in GGUF format") from None
        if header.split_count > 1:
            raise UnsupportedError(
                f"{file_name!r} is one of {header.split_count} parts of a split GGUF file: "
                "merge them with llama-gguf-split first"
            )
        if header.is_projector:
            raise UnsupportedError(
                f"{file_name!r} is a projector for images or sound, "
                "which this release does not support: leave it out"
            )
        if header.kind == "adapter":
            layer = msgspec.structs.replace(layer, media_type=ADAPTER_TYPE)
        return layer, header

    def _require(self, digest: str) -> str:
        """Pin a blob that must be there; give its canonical digest."""
        try:
            digest = parse_digest(digest)
        except InvalidDigestError as error:
            # Only an empty digest is the request's fault alone; the API tells these two apart.
            raise StoreError(str(error)) from None
        self._pin([digest])
        if not self._store.blobs.touch(digest):
            path = self._store.blobs.path(digest)
            raise StoreError(f"open {path}: no such file or directory")
        return digest

    def _layer(self, media_type: str, digest: str, **more: str) -> Layer:
        digest = self._require(digest)
        size_bytes = self._store.blobs.size(digest)
        return Layer(media_type=media_type, digest=digest, size_bytes=size_bytes, **more)

    def _header(self, layer: Layer) -> GgufHeader:
        return self._store.header(self._file(layer))

    def _file(self, layer: Layer) -> ModelFile:
        return ModelFile(
            media_type=layer.media_type,
            digest=layer.digest,
            size_bytes=layer.size_bytes,
            path=self._store.blobs.path(layer.digest),
            name=layer.name,
        )

    def _read(self, digest: str, limit: int) -> bytes:
        with open_regular(self._store.blobs.path(digest)) as stream:
            return stream.read(limit)

    # --- what goes with them ----------------------------------------------------------------------

    def add_texts(self, request: CreateRequest, parameters: dict[str, Any]) -> None:
        """Add template, system prompt, licences, parameters and messages, in this order.

        Args:
            request: What to add; what is empty leaves the base's as it is.
            parameters: Those of the base.
        """
        if request.template:
            self._replace((TEMPLATE_TYPE, PROMPT_TYPE), request.template.encode())
        if request.system:
            self._replace((SYSTEM_TYPE,), request.system.encode())
        licenses = {layer.digest for layer in self.layers if layer.media_type == LICENSE_TYPE}
        for text in request.licenses:
            if digest_of(text.encode()) not in licenses:  # a printed Modelfile names the base's
                self._add(LICENSE_TYPE, text.encode())
        self._parameters = {**parameters, **request.parameters}
        if self._parameters:
            self._replace((PARAMETERS_TYPE,), go_json(sorted_keys(self._parameters)) + b"\n")
        if request.messages:
            messages = [_message(message) for message in request.messages]
            self._replace((MESSAGES_TYPE,), go_json(messages) + b"\n")

    def _replace(self, media_types: tuple[str, ...], data: bytes) -> None:
        self.layers = [layer for layer in self.layers if layer.media_type not in media_types]
        self._add(media_types[0], data)

    def _add(self, media_type: str, data: bytes) -> None:
        self.layers.append(self._store_layer(media_type, data))

    def _store_layer(self, media_type: str, data: bytes) -> Layer:
        digest = self._keep(data)
        return Layer(media_type=media_type, digest=digest, size_bytes=len(data))

    def _keep(self, data: bytes) -> str:
        self._pin([digest_of(data)])
        digest, is_new = self._store.blobs.add(data)
        if is_new:
            self._made.append(digest)
        return digest

    # --- the end ----------------------------------------------------------------------------------

    def complete(self, config: ModelConfig) -> ModelConfig:
        """Fill in what the weights say wherever the config says nothing."""
        said = self._said
        if said.model_format == "ggml":
            said = _of_legacy(said, self._parameters)
        fields: dict[str, Any] = {
            field: getattr(config, field) or getattr(said, field) for field in _SAID
        }
        return msgspec.structs.replace(
            config,
            **fields,
            model_families=said.model_families,
            architecture="amd64",
            os="linux",
        )

    def manifest(self, config: ModelConfig) -> bytes:
        """Store the config; write the manifest's bytes."""
        raw = go_json(config.to_document()) + b"\n"
        return encode_manifest(self._store_layer(CONFIG_TYPE, raw), self.layers)


def _of_headers(headers: Sequence[GgufHeader]) -> ModelConfig:
    first = headers[0]
    return ModelConfig(
        model_format="gguf",
        model_family=first.architecture,
        model_families=tuple(header.architecture for header in headers),
        model_type=parameter_size_text(first.parameter_count),
        file_type=stored_file_type(first),
    )


def _of_legacy(said: ModelConfig, parameters: Mapping[str, Any]) -> ModelConfig:
    """Name the architecture of a file of a format before GGUF, which only its user knows."""
    family = parameters.get("model_type")
    if not isinstance(family, str) or not family.isprintable():
        return said
    if not 0 < len(family) <= _LONGEST_FAMILY:
        return said
    return msgspec.structs.replace(said, model_family=family, model_families=(family,))


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = str(message.get("role") or ""), message.get("content") or ""
    more = {key: message[key] for key in _MESSAGE_KEYS if message.get(key)}
    return {"role": role.lower(), "content": content, **more}
