"""Makes a model of files or of another model: `create_model(store, request)`.

Nothing refers to the new blobs until the manifest is written, which happens in one step at the end.
If it fails or is given up before that, the blobs that it made are deleted again.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping
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
    LICENSE_TYPE,
    MESSAGES_TYPE,
    PARAMETERS_TYPE,
    PROMPT_TYPE,
    SYSTEM_TYPE,
    TEMPLATE_TYPE,
    WEIGHTS_TYPE,
    Layer,
    ModelConfig,
    ModelFile,
    parameter_size_text,
    stored_file_type,
)
from corral_kernel.names import ModelName, parse_digest
from corral_kernel.store.blobs import digest_of
from corral_kernel.store.govalues import go_json, sorted_keys
from corral_kernel.store.manifests import encode_manifest
from corral_kernel.store.requests import (
    CreateRequest,
    Progress,
    check_request,
    config_from_info,
    parse_base,
    source_kind,
)
from corral_kernel.store.store import Store

_MESSAGE_KEYS = ("thinking", "images", "tool_calls", "tool_name", "tool_call_id")


def create_model(store: Store, request: CreateRequest) -> Generator[Progress, None, None]:
    """Create a model, or replace the one of that name, step by step.

    What the request alone shows to be wrong is raised by the call itself; the rest while iterating.

    Raises:
        InvalidRequestError: If the request cannot succeed as it stands.
        UnsupportedError: If it needs what this release does not do.
        ManifestNotFoundError: If its base is not in the store.
        InvalidModelError: If a file is damaged.
        StoreError: If a blob is missing or cannot be stored.
    """
    name = check_request(request)
    config = msgspec.structs.replace(config_from_info(request.info), requires=request.requires)
    base = parse_base(request.base) if request.base else None
    return _steps(store, request, name, base, config)


def _steps(
    store: Store,
    request: CreateRequest,
    name: ModelName,
    base: ModelName | None,
    config: ModelConfig,
) -> Generator[Progress, None, None]:
    with contextlib.ExitStack() as ending:
        made: list[str] = []
        # Last of all, when nothing is pinned any more: what no manifest needs goes again.
        ending.callback(store.discard, made)
        work = _Assembly(store, ending.enter_context(store.pinning()), made)
        parameters: dict[str, Any] = {}
        if base is not None:
            config, parameters = work.inherit(base, config)
        else:
            yield from work.add_files(request.files or {})
        if request.adapters:
            yield from work.add_adapter(request.adapters)
        work.add_texts(request, parameters)
        raw = work.manifest(work.complete(config))
        for layer in work.layers:
            doing = "creating new" if layer.digest in made else "using existing"
            yield Progress(f"{doing} layer {layer.digest}")
        yield Progress("writing manifest")
        store.publish(name, raw)
    yield Progress("success")


class _Assembly:
    """The layers of a model that is being made."""

    def __init__(self, store: Store, pin: Callable[[Iterable[str]], None], made: list[str]) -> None:
        self._store = store
        self._pin = pin
        self._made = made  # digests of blobs that were not there before
        self.layers: list[Layer] = []
        self._headers: list[GgufHeader] = []  # of the weights, in order

    # --- where the weights come from -------------------------------------------------------------

    def inherit(self, base: ModelName, config: ModelConfig) -> tuple[ModelConfig, dict[str, Any]]:
        """Take over all layers of another model.

        Returns:
            The config with what is inherited, and the parameters of the base.
        """
        try:
            stored, source = self._store.find(base)
            model = self._store.open(base)
        except ModelNotFoundError:
            raise ManifestNotFoundError(
                f"there is no model {base.short} here, and this release cannot pull one: "
                "name a model that is listed, or a GGUF file"
            ) from None
        if model.is_remote:
            raise UnsupportedError(f"{base.short} is a model on another host: name a local one")
        if model.format == "safetensors":
            raise UnsupportedError(
                f"{base.short} is made of safetensors files, which this release cannot build upon: "
                "name a GGUF model"
            )
        self._pin(stored.manifest.digests)
        self._made += self._store.adopt(stored, source)
        for layer in stored.manifest.layers:
            self._require(layer.digest)
            if layer.media_type == WEIGHTS_TYPE:
                self._headers.append(self._header(layer))
            self.layers.append(msgspec.structs.replace(layer, inherited_from=stored.name.short))
        kept = ("model_format", "renderer", "parser", "requires", "capabilities")
        inherited = {
            field: getattr(config, field) or getattr(model.config, field) for field in kept
        }
        return msgspec.structs.replace(config, **inherited), dict(model.parameters)

    def add_files(self, files: Mapping[str, str]) -> Generator[Progress, None, None]:
        """Add uploaded GGUF files, sorted by name."""
        kind = source_kind(files)
        if kind == "safetensors":
            raise UnsupportedError(
                "importing safetensors files is not supported by this release: "
                "convert the model to GGUF first"
            )
        if kind is None and not any(self._is_gguf(digest) for digest in files.values()):
            raise InvalidRequestError("unknown type")
        for file_name, digest in sorted(files.items()):
            yield Progress("parsing GGUF")
            layer, header = self._gguf_layer(file_name, digest)
            if layer.media_type == WEIGHTS_TYPE:
                self._headers.append(header)
            self.layers.append(layer)
        if not self._headers:
            raise InvalidRequestError("no base model was found")
        if len(self._headers) > 1:
            raise UnsupportedError("several files of weights cannot make one model: send one")

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
            yield Progress("parsing GGUF")
            try:
                layer, _ = self._gguf_layer(file_name, digest)
            except (StoreError, InvalidModelError) as error:
                raise InvalidRequestError(f"adapter {file_name!r}: {error}") from error
            if layer.media_type != ADAPTER_TYPE:
                raise InvalidRequestError(
                    f"adapter {file_name!r} is no adapter: its general.type is not 'adapter'"
                )
            self.layers.append(layer)

    def _is_gguf(self, digest: str) -> bool:
        path = self._store.blobs.path(self._require(digest))
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC

    def _gguf_layer(self, file_name: str, digest: str) -> tuple[Layer, GgufHeader]:
        digest = self._require(digest)
        layer = Layer(
            media_type=WEIGHTS_TYPE,
            digest=digest,
            size_bytes=self._store.blobs.size(digest),
            inherited_from=file_name,
        )
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

    def _header(self, layer: Layer) -> GgufHeader:
        file = ModelFile(
            media_type=layer.media_type,
            digest=layer.digest,
            size_bytes=layer.size_bytes,
            path=self._store.blobs.path(layer.digest),
        )
        return self._store.header(file)

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
        for text in request.licenses:
            self._add(LICENSE_TYPE, text.encode())
        merged = {**parameters, **request.parameters}
        if merged:
            self._replace((PARAMETERS_TYPE,), go_json(sorted_keys(merged)) + b"\n")
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
        fields: dict[str, Any] = {"architecture": "amd64", "os": "linux"}
        for header in self._headers[:1]:
            fields |= {
                "model_format": config.model_format or "gguf",
                "model_family": config.model_family or header.architecture,
                "model_type": config.model_type or parameter_size_text(header.parameter_count),
                "file_type": config.file_type or stored_file_type(header),
                "model_families": tuple(header.architecture for header in self._headers),
            }
        return msgspec.structs.replace(config, **fields)

    def manifest(self, config: ModelConfig) -> bytes:
        """Store the config; write the manifest's bytes."""
        raw = go_json(config.to_document()) + b"\n"
        return encode_manifest(self._store_layer(CONFIG_TYPE, raw), self.layers)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = str(message.get("role") or ""), message.get("content") or ""
    more = {key: message[key] for key in _MESSAGE_KEYS if message.get(key)}
    return {"role": role.lower(), "content": content, **more}
