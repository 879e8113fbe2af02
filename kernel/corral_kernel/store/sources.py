"""What a model is made of: uploaded files of each layout, adapters, drafts."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from corral_kernel.contracts import Source, SourceFile
from corral_kernel.errors import (
    InvalidModelError,
    InvalidRequestError,
    RemoteJobError,
    StoreError,
    TaskError,
    UnsupportedError,
)
from corral_kernel.foldernames import check_folder_names
from corral_kernel.gguf import MAGIC, check_adapter
from corral_kernel.makers import Chosen, Makers
from corral_kernel.models import (
    ADAPTER_TYPE,
    DRAFT_TYPE,
    FILE_TYPE,
    LEGACY_MAGICS,
    UNKNOWN,
    WEIGHTS_TYPE,
    Layer,
    ModelConfig,
    ModelFile,
)
from corral_kernel.store.documents import folder_config, read_texts
from corral_kernel.store.ggufs import GgufFile, gguf_files, read_gguf
from corral_kernel.store.layering import Layers
from corral_kernel.store.making import Making, make
from corral_kernel.store.opening import read_head
from corral_kernel.store.requests import source_format, source_kind
from corral_kernel.store.steps import Progress, Steps

# The identifier that stands in the FlatBuffers of ONNX Runtime's adapters, and where.
_ONNX_ADAPTER: Final = b"TORT"
_ONNX_ADAPTER_AT: Final = slice(4, 8)
_CONVERTING_DIGEST: Final = "0000000000000000001"  # clients tell bars apart by it


class Sources:
    """Adds layers of uploaded files.

    Args:
        layers: To add to.
        makers: Converters, for layouts that need one.
        model: Name of the new model, for messages.
    """

    def __init__(self, layers: Layers, makers: Makers, model: str) -> None:
        self._layers = layers
        self._makers = makers
        self._model = model

    def add_files(self, files: Mapping[str, str]) -> Steps[ModelConfig | None]:
        """Add the files that are the model.

        Returns:
            What they say of themselves; None: their GGUF heads do.

        Raises:
            InvalidRequestError: If they are of no known kind.
            CorralError: Whatever is wrong with them.
        """
        kind = source_kind(files)
        if kind == "folder":
            self._add_folder(files)
            said = self.folder_config()  # what is wrong with it is told before anything else
            yield Progress("parsing ONNX model")
            return said
        if kind is None and self._is_legacy(files):
            for file_name, digest in files.items():
                self._add(self._layers.layer(WEIGHTS_TYPE, digest, inherited_from=file_name))
            yield Progress("parsing GGML")
            return ModelConfig(model_format="ggml", file_type=UNKNOWN)
        for layer in (yield from self._weights(files)):
            self._add(layer)
        for layer in self._of_type(ADAPTER_TYPE):
            self._check_fit(layer)
        return self.folder_config() if self._of_type(FILE_TYPE) else None

    def folder_config(self) -> ModelConfig:
        """What the files of a folder say of it."""
        inside = [self._layers.file(layer) for layer in self._of_type(FILE_TYPE)]
        texts = read_texts(inside, self._layers.read)
        return folder_config(texts, [file.name for file in inside])

    def add_adapter(self, adapters: Mapping[str, str], said: ModelConfig) -> Steps[None]:
        """Add an uploaded LoRA adapter behind those of the base.

        Args:
            adapters: Its files.
            said: What the base says of itself.

        Raises:
            InvalidRequestError: For whatever is wrong with it.
        """
        try:
            if source_kind(adapters) == "safetensors":
                layer = yield from self._converted_adapter(adapters, said)
            else:
                layer = yield from self._uploaded_adapter(adapters, said)
            self._check_fit(layer, said.model_family)
        except (StoreError, InvalidModelError, TaskError, RemoteJobError) as error:
            names = ", ".join(sorted(adapters)[:3])
            raise InvalidRequestError(f"adapter {names!r}: {error}") from error
        self._add(layer)

    def add_drafts(self, files: Mapping[str, str]) -> Steps[None]:
        """Add uploaded models that draft for this one, in place of the base's.

        Raises:
            InvalidRequestError: If one of them is no model.
            CorralError: Whatever else is wrong with them.
        """
        drafts = yield from self._weights(files)
        if any(layer.media_type != WEIGHTS_TYPE for layer in drafts):
            raise InvalidRequestError("a DRAFT is to be the GGUF file of a model")
        self._layers.remove((DRAFT_TYPE,))
        for layer in drafts:
            self._add(msgspec.structs.replace(layer, media_type=DRAFT_TYPE))

    # ----------------------------------------------------------------------------- privately

    def _add(self, layer: Layer) -> None:
        self._layers.items.append(layer)

    def _of_type(self, media_type: str) -> list[Layer]:
        return [layer for layer in self._layers.items if layer.media_type == media_type]

    def _weights(self, files: Mapping[str, str]) -> Steps[list[Layer]]:
        """Give the layers of GGUF files, or of files that a converter makes into what runs."""
        kind = source_kind(files)
        is_gguf = kind == "gguf" or any(self._layers.begins(d, MAGIC) for d in files.values())
        if is_gguf and kind != "safetensors":
            found = yield from gguf_files(self._layers, files)
            self._check_count(found)
            return [file.layer for file in found]
        if not files:
            raise InvalidRequestError("unknown type")
        return (yield from self._converted("model", files))

    def _check_count(self, found: list[GgufFile]) -> None:
        models = [file for file in found if file.layer.media_type == WEIGHTS_TYPE]
        if not models:
            raise InvalidRequestError("no base model was found")
        if len(models) > 1:
            raise UnsupportedError("several files of weights cannot make one model: send one")

    def _add_folder(self, files: Mapping[str, str]) -> None:
        """Add the files of a folder, whose names are checked already."""
        for name, digest in sorted(files.items()):
            self._add(self._layers.layer(FILE_TYPE, digest, name=name))

    def _is_legacy(self, files: Mapping[str, str]) -> bool:
        begins = self._layers.begins
        return len(files) == 1 and all(begins(d, *LEGACY_MAGICS) for d in files.values())

    # ------------------------------------------------------------------------- by a converter

    def _converted(
        self,
        kind: Literal["model", "adapter"],
        files: Mapping[str, str],
        base: ModelFile | None = None,
        architecture: str = "",
    ) -> Steps[list[Layer]]:
        check_folder_names(files)
        layers = self._layers
        named = [layers.layer(FILE_TYPE, files[name], name=name) for name in sorted(files)]
        inside = tuple(map(layers.file, named))
        texts = read_texts(inside, layers.read)
        if texts.problem:
            raise InvalidModelError(texts.problem)
        source = Source(
            kind=kind,
            format=source_format(files),
            files=tuple(SourceFile(name=f.name, size_bytes=f.size_bytes) for f in inside),
            documents=texts.documents,
            architecture=architecture,
        )
        status = f"converting {kind}"
        making = Making(
            source=source,
            chosen=self._converter(source),
            files=inside,
            base=base,
            doing=f"converting {self._model}",
            shown=Progress(status, _CONVERTING_DIGEST, source.size_bytes),
        )
        yield Progress(status)
        made = yield from make(layers, making)
        return [self._described(layer, source) for layer in made]

    def _converter(self, source: Source) -> Chosen:
        try:
            return self._makers.converter(source)
        except TaskError:
            if source.format == "safetensors":
                raise
            raise InvalidRequestError("unknown type") from None

    def _described(self, layer: Layer, source: Source) -> Layer:
        """Look into a GGUF file that was made, and say what it was made of."""
        if layer.media_type == FILE_TYPE:
            return layer
        self._layers.header(layer)
        first = next(f.name for f in source.files if not f.name.endswith(".json"))
        return msgspec.structs.replace(layer, inherited_from=first)

    def _converted_adapter(self, adapters: Mapping[str, str], said: ModelConfig) -> Steps[Layer]:
        weights = self._of_type(WEIGHTS_TYPE)
        if not weights:
            raise InvalidRequestError("no base model was found")
        base = self._layers.file(weights[0])
        (layer,) = yield from self._converted("adapter", adapters, base, said.model_family)
        return layer

    def _uploaded_adapter(self, adapters: Mapping[str, str], said: ModelConfig) -> Steps[Layer]:
        if len(adapters) > 1:
            raise InvalidRequestError("only one adapter is currently supported")
        is_onnx = said.model_format == "onnx"
        yield Progress("parsing ONNX adapter" if is_onnx else "parsing GGUF")
        ((file_name, digest),) = adapters.items()
        if is_onnx:
            return self._onnx_adapter(file_name, digest)
        layer, _ = read_gguf(self._layers, file_name, digest)
        if layer.media_type != ADAPTER_TYPE:
            raise InvalidRequestError(
                f"adapter {file_name!r} is no adapter: its general.type is not 'adapter'"
            )
        return layer

    def _check_fit(self, adapter: Layer, family: str = "") -> None:
        """Make sure that a GGUF adapter is for the weights.

        Args:
            adapter: In any format; others are not looked into.
            family: Architecture of weights that are no GGUF file; empty: unknown.

        Raises:
            InvalidRequestError: If it is for others.
        """
        if not self._layers.begins(adapter.digest, MAGIC):
            return
        header, name = self._layers.header(adapter), adapter.inherited_from
        weights = [w for w in self._of_type(WEIGHTS_TYPE) if self._layers.begins(w.digest, MAGIC)]
        heads = [self._layers.header(layer) for layer in weights]
        wanted = heads[0].architecture if heads else family
        if wanted not in ("", header.architecture):
            raise InvalidRequestError(
                f"adapter {name!r} is for models of architecture {header.architecture}, "
                f"and this one is of {wanted}"
            )
        try:
            if heads:
                check_adapter(header, [tensor for head in heads for tensor in head.tensors])
        except InvalidModelError as error:
            raise InvalidRequestError(f"adapter {name!r}: {error}") from error

    def _onnx_adapter(self, file_name: str, digest: str) -> Layer:
        layer = self._layers.layer(ADAPTER_TYPE, digest, inherited_from=file_name)
        if read_head(self._layers.path(layer.digest))[_ONNX_ADAPTER_AT] != _ONNX_ADAPTER:
            raise InvalidRequestError(
                f"adapter {file_name!r} is no .onnx_adapter file, which ONNX models take"
            )
        return layer
