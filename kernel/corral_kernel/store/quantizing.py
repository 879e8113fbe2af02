"""Making the weights of a model smaller, while it is created."""

from typing import Final

import msgspec

from corral_kernel.contracts import Source, SourceFile
from corral_kernel.errors import InvalidRequestError, TaskError, UnsupportedError
from corral_kernel.gguf import GgufHeader
from corral_kernel.makers import Makers
from corral_kernel.models import (
    DRAFT_TYPE,
    FILE_TYPE,
    LEGACY_MAGICS,
    UNKNOWN,
    WEIGHTS_TYPE,
    Layer,
    ModelConfig,
    ModelFile,
)
from corral_kernel.store.documents import read_texts
from corral_kernel.store.layering import Layers
from corral_kernel.store.making import MODEL_NAME, Making, gguf_source, make
from corral_kernel.store.requests import CreateRequest
from corral_kernel.store.steps import Progress, Steps

FULL: Final = ("F32", "F16", "BF16")
_SHORT: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
_ONLY: Final = "quantization is only supported for F16, BF16 and F32 models"
_MODEL_DIGEST: Final = "0000000000000000000"  # as Ollama has it; clients tell bars apart by it
_DRAFT_DIGEST: Final = "0000000000000000003"


def wanted_type(text: str) -> str:
    """Give a type as quantizers name it; empty: none is asked for."""
    upper = text.strip().upper()
    return _SHORT.get(upper, upper)


def check_quantizing(request: CreateRequest, makers: Makers) -> None:
    """Look at what is asked for, before anything is done.

    Raises:
        TaskError: If there is no such type.
        InvalidRequestError: If there is an importance matrix for nothing.
    """
    if request.imatrix and not request.quantize:
        raise InvalidRequestError("'imatrix' is without 'quantize', the type that it is for")
    for text in filter(None, (request.quantize, request.draft_quantize)):
        makers.check_type(wanted_type(text))


class Quantizing:
    """Quantizes layers.

    Args:
        layers: Of the model.
        makers: The quantizers.
        request: What is asked for.
    """

    def __init__(self, layers: Layers, makers: Makers, request: CreateRequest) -> None:
        self._layers = layers
        self._makers = makers
        self._model = request.model
        self._type = wanted_type(request.quantize)
        self._draft_type = wanted_type(request.draft_quantize)
        self._imatrix = request.imatrix

    def weights(self, said: ModelConfig) -> Steps[ModelConfig | None]:
        """Quantize the model, if that is asked for.

        Args:
            said: What the model says of itself.

        Returns:
            What it says now, for a folder; None: its GGUF head does, or nothing changed.

        Raises:
            TaskError: If it is quantized already, or that fails.
            UnsupportedError: If nobody here can make that of it.
        """
        if not self._type:
            return None
        for layer in [item for item in self._layers.items if item.media_type == WEIGHTS_TYPE]:
            if self._layers.begins(layer.digest, *LEGACY_MAGICS):
                raise TaskError(_ONLY)
            yield from self._gguf(layer, self._type, is_draft=False)
        if any(layer.media_type == FILE_TYPE for layer in self._layers.items):
            return (yield from self._folder(said))
        return None

    def drafts(self) -> Steps[None]:
        """Quantize the models that draft, if that is asked for.

        Raises:
            TaskError: As for `weights`.
            UnsupportedError: Likewise.
        """
        if self._draft_type:
            for layer in [item for item in self._layers.items if item.media_type == DRAFT_TYPE]:
                yield from self._gguf(layer, self._draft_type, is_draft=True)

    # ----------------------------------------------------------------------------- privately

    def _gguf(self, layer: Layer, type_name: str, *, is_draft: bool) -> Steps[None]:
        header = self._layers.header(layer)
        stored = stored_type(header)
        if stored == type_name:
            return
        if stored not in FULL:
            raise TaskError(
                f"draft quantization requires an unquantized draft model, got {stored}"
                if is_draft
                else _ONLY
            )
        source = gguf_source(layer, header, stored)
        digest = _DRAFT_DIGEST if is_draft else _MODEL_DIGEST
        shown = _shown(stored, type_name, digest, layer.size_bytes)
        files = (self._layers.named(layer, MODEL_NAME),)
        (made,) = yield from self._make(source, files, type_name, shown, with_matrix=not is_draft)
        self._layers.header(made)
        self._layers.exchange(layer, msgspec.structs.replace(made, media_type=layer.media_type))

    def _folder(self, said: ModelConfig) -> Steps[ModelConfig | None]:
        stored = said.file_type if said.file_type != UNKNOWN else ""
        if stored == self._type:
            return None
        if stored and stored not in FULL:
            raise TaskError(_ONLY)
        old = [layer for layer in self._layers.items if layer.media_type == FILE_TYPE]
        files = tuple(map(self._layers.file, old))
        source = Source(
            kind="model",
            format=said.model_format,
            files=tuple(SourceFile(name=f.name, size_bytes=f.size_bytes) for f in files),
            documents=read_texts(files, self._layers.read).documents,
            architecture=said.model_family,
            file_type=stored,
        )
        shown = _shown(stored or said.model_format, self._type, _MODEL_DIGEST, source.size_bytes)
        made = yield from self._make(source, files, self._type, shown, with_matrix=True)
        at = self._layers.items.index(old[0])
        rest = [layer for layer in self._layers.items if layer.media_type != FILE_TYPE]
        self._layers.items = [*rest[:at], *sorted(made, key=lambda m: m.name), *rest[at:]]
        return msgspec.structs.replace(said, file_type=self._type)

    def _make(
        self,
        source: Source,
        files: tuple[ModelFile, ...],
        type_name: str,
        shown: Progress,
        *,
        with_matrix: bool,
    ) -> Steps[list[Layer]]:
        chosen = self._makers.quantizer(source, type_name)
        use = self._makers.imatrix_of(chosen, type_name)
        given = self._imatrix if with_matrix else ""
        if use == "needs" and not given:
            raise UnsupportedError(
                f"{type_name} needs an importance matrix: send the digest of one as 'imatrix' "
                "(--imatrix FILE)"
            )
        if use == "none" and given:
            raise UnsupportedError(f"{type_name} takes no importance matrix: leave 'imatrix' out")
        making = Making(
            source=source,
            chosen=chosen,
            files=files,
            doing=f"quantizing {self._model}",
            shown=shown,
            type_name=type_name,
            imatrix=self._layers.file(self._layers.layer("", given)) if given else None,
        )
        return (yield from make(self._layers, making))


def _shown(stored: str, type_name: str, digest: str, size_bytes: int) -> Progress:
    return Progress(f"quantizing {stored} model to {type_name}", digest, size_bytes)


def stored_type(header: GgufHeader) -> str:
    """What a GGUF file is stored as; where it does not say, what most of its numbers are."""
    if header.file_type is not None:
        return header.file_type_name
    sizes: dict[str, int] = {}
    for tensor in header.tensors:
        sizes[tensor.type_name] = sizes.get(tensor.type_name, 0) + tensor.size_bytes
    return max(sizes, key=lambda name: sizes[name], default=UNKNOWN)
