"""Puts the layers of a model together: what `create_model` does, step by step."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from corral_kernel.errors import (
    InvalidModelError,
    ManifestNotFoundError,
    ModelNotFoundError,
    UnsupportedError,
)
from corral_kernel.gguf import GgufHeader
from corral_kernel.makers import Makers
from corral_kernel.models import (
    CONFIG_TYPE,
    DRAFT_TYPE,
    LEGACY_MAGICS,
    LICENSE_TYPE,
    MESSAGES_TYPE,
    PARAMETERS_TYPE,
    PROMPT_TYPE,
    SYSTEM_TYPE,
    TEMPLATE_TYPE,
    WEIGHTS_TYPE,
    Draft,
    ModelConfig,
    parameter_size_text,
    stored_file_type,
)
from corral_kernel.names import ModelName
from corral_kernel.store.blobs import digest_of
from corral_kernel.store.govalues import go_json, sorted_keys
from corral_kernel.store.layering import Layers
from corral_kernel.store.manifests import encode_manifest
from corral_kernel.store.quantizing import Quantizing
from corral_kernel.store.requests import CreateRequest
from corral_kernel.store.sources import Sources
from corral_kernel.store.steps import Steps

_LONGEST_FAMILY = 80
_UNTOLD: Final = b"lmgg"  # of the formats before GGUF the one that does not tell an architecture
_SAID = (
    "model_format",
    "model_family",
    "model_type",
    "file_type",
    "context_length",
    "embedding_length",
)
_MESSAGE_KEYS = ("thinking", "images", "tool_calls", "tool_name", "tool_call_id")


class _Usual(NamedTuple):
    """What a model of some architecture gets where nobody says otherwise."""

    name: str  # of its renderer and its parser
    stops: tuple[str, ...] = ()


_USUAL: Final = {
    "gemma4": _Usual("gemma4", ("<turn|>",)),
    "laguna": _Usual("laguna"),
    "nemotron_h": _Usual("nemotron-3-nano"),
    "nemotron_h_moe": _Usual("nemotron-3-nano"),
    "nemotron_h_omni": _Usual("nemotron-3-nano"),
}


class Assembly:
    """A model that is being made.

    Args:
        layers: Of it, none so far.
        makers: Converters and quantizers.
        request: What is asked for.
    """

    def __init__(self, layers: Layers, makers: Makers, request: CreateRequest) -> None:
        self._layers = layers
        self._request = request
        self._sources = Sources(layers, makers, request.model)
        self._quantizing = Quantizing(layers, makers, request)
        self._said = ModelConfig()  # what the weights, or the base, say of themselves
        self._parameters: dict[str, Any] = {}

    # --- where the weights come from -------------------------------------------------------------

    def add_files(self) -> Steps[None]:
        """Add uploaded files: GGUF, a folder, what a converter reads, or of before GGUF."""
        said = yield from self._sources.add_files(self._request.files or {})
        self._said = said or self._of_heads()

    def quantize(self) -> Steps[None]:
        """Make the weights smaller, if that is asked for."""
        said = yield from self._quantizing.weights(self._said)
        if self._request.quantize and self._said.model_format != "ggml":
            self._said = said or (self._of_heads() if self._has_weights else self._said)

    def add_adapter(self) -> Steps[None]:
        """Add an uploaded adapter."""
        yield from self._sources.add_adapter(self._request.adapters, self._said)

    def add_drafts(self) -> Steps[None]:
        """Add uploaded models that draft for this one, smaller ones if that is asked for."""
        yield from self._sources.add_drafts(self._request.draft_files)
        yield from self._quantizing.drafts()

    @property
    def _has_weights(self) -> bool:
        return any(layer.media_type == WEIGHTS_TYPE for layer in self._layers.items)

    @property
    def _has_template(self) -> bool:
        kinds = (TEMPLATE_TYPE, PROMPT_TYPE)
        return any(layer.media_type in kinds for layer in self._layers.items)

    def _of_heads(self) -> ModelConfig:
        weights = [item for item in self._layers.items if item.media_type == WEIGHTS_TYPE]
        return _of_headers([self._layers.header(layer) for layer in weights])

    def inherit(self, base: ModelName, config: ModelConfig) -> tuple[ModelConfig, dict[str, Any]]:
        """Take over all layers of another model.

        Returns:
            The config with what is inherited, and the parameters of the base.
        """
        try:
            stored, source = self._layers.store.settle(base)
            model = self._layers.store.open(base)
        except ModelNotFoundError:
            raise ManifestNotFoundError(
                f"there is no model {base.short} here: "
                "pull it first, or name a model that is listed, or a GGUF file"
            ) from None
        if model.format == "safetensors":
            why = model.problem or (
                "it is made of safetensors files, which this release cannot build upon: "
                "name a GGUF model"
            )
            raise UnsupportedError(f"{base.short}: {why}")
        if model.folder_files and model.problem:
            raise InvalidModelError(f"{base.short}: {model.problem}")
        self._layers.adopt(stored, source)
        for layer in stored.manifest.layers:
            self._layers.require(layer.digest)
            inherited = msgspec.structs.replace(layer, inherited_from=stored.name.short)
            self._layers.items.append(inherited)
        is_gguf = self._has_weights and not model.head.startswith(LEGACY_MAGICS)
        self._said = self._of_heads() if is_gguf else model.config
        kept = ["model_format", "renderer", "parser", "requires", "capabilities"]
        kept += ["remote_host", "remote_model"]
        facts = {field: getattr(config, field) or getattr(model.config, field) for field in kept}
        return msgspec.structs.replace(config, **facts), dict(model.parameters)

    # --- what goes with them ----------------------------------------------------------------------

    def fill_in(
        self, config: ModelConfig, parameters: dict[str, Any]
    ) -> tuple[ModelConfig, dict[str, Any]]:
        """Give renderer, parser and stop words to a model whose architecture is known to want them.

        A template that the request or the base has stays in charge.

        Args:
            config: What is asked for, or inherited.
            parameters: Those of the base.

        Returns:
            Both.
        """
        usual = _USUAL.get(self._said.model_family) if self._has_weights else None
        if usual is None or (config.renderer and config.parser):
            return config, parameters
        if not config.renderer and (self._request.template or self._has_template):
            return config, parameters
        config = msgspec.structs.replace(
            config, renderer=config.renderer or usual.name, parser=config.parser or usual.name
        )
        stops = {"stop": list(usual.stops)} if usual.stops else {}
        return config, {**stops, **parameters}

    def add_texts(self, parameters: dict[str, Any]) -> None:
        """Add template, system prompt, licences, parameters and messages, in this order.

        What is not asked for stays as the base has it.

        Args:
            parameters: Those of the base.
        """
        request = self._request
        if request.template:
            self._layers.replace((TEMPLATE_TYPE, PROMPT_TYPE), request.template.encode())
        if request.system:
            self._layers.replace((SYSTEM_TYPE,), request.system.encode())
        items = self._layers.items
        licenses = {layer.digest for layer in items if layer.media_type == LICENSE_TYPE}
        for text in request.licenses:
            if digest_of(text.encode()) not in licenses:  # a printed Modelfile names the base's
                self._layers.add(LICENSE_TYPE, text.encode())
        self._parameters = {**parameters, **request.parameters}
        if self._parameters:
            self._layers.replace((PARAMETERS_TYPE,), go_json(sorted_keys(self._parameters)) + b"\n")
        if request.messages:
            messages = [_message(message) for message in request.messages]
            self._layers.replace((MESSAGES_TYPE,), go_json(messages) + b"\n")

    # --- the end ----------------------------------------------------------------------------------

    def warning(self) -> str:
        """What the model needs to run, and may still get from each request; empty: nothing."""
        weights = [layer for layer in self._layers.items if layer.media_type == WEIGHTS_TYPE]
        if self._said.model_format != "ggml" or isinstance(self._parameters.get("model_type"), str):
            return ""
        if not any(self._layers.begins(layer.digest, _UNTOLD) for layer in weights):
            return ""
        # Short enough for a line of a terminal.
        return "warning: add PARAMETER model_type: the file does not tell its architecture"

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
            draft=self._draft(),
            architecture="amd64",
            os="linux",
        )

    def _draft(self) -> Draft | None:
        """What a config says of models that draft for this one."""
        for layer in self._layers.items:
            if layer.media_type == DRAFT_TYPE:
                architecture = self._layers.header(layer).architecture
                return Draft(model_format="gguf", architecture=architecture)
        return None

    def manifest(self, config: ModelConfig) -> bytes:
        """Store the config; write the manifest's bytes."""
        raw = go_json(config.to_document()) + b"\n"
        return encode_manifest(self._layers.small(CONFIG_TYPE, raw), self._layers.items)


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
