"""Folders of ONNX models made smaller by ONNX Runtime's own tools, which are imported late."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from corral_kernel.contracts import MadeFile, Offer, QuantizationType, Quantizer, Source, Work
from corral_kernel.errors import UnsupportedError
from corral_kernel.foldernames import GENAI_CONFIG, graph_name
from corral_onnx.claim import ENVIRONMENT
from corral_onnx.config import genai_config

_BITS: Final = {"INT4": 4, "INT8": 8}
_CONFIDENCE: Final = 0.9
_GRAPH: Final = "graph"


class OnnxQuantizer(Quantizer):
    """Stores the weights of matrix products in 4 or 8 bits, in blocks of 32 with a scale."""

    name = "onnxruntime"
    docs = "ONNX folders: weights of matrix products in 4 or 8 bits; all else stays as it is"
    library = "onnx_ir"
    extra = "corral[onnx]"
    types = (
        QuantizationType(name="INT4", bits=4.5, docs="of an ONNX folder, blocks of 32"),
        QuantizationType(name="INT8", bits=8.5, docs="of an ONNX folder, blocks of 32"),
    )

    def offer(self, source: Source, type_name: str) -> Offer | None:
        """Bid for a folder of ONNX Runtime GenAI, or of one encoder with its tokenizer.

        Raises:
            UnsupportedError: If the folder does not say which graph is to be quantized.
        """
        if source.format != "onnx" or source.kind != "model" or type_name not in _BITS:
            return None
        names = [file.name for file in source.files]
        graph = _decoder(source) if GENAI_CONFIG in names else graph_name(names)
        if graph not in names:
            raise UnsupportedError(f"the folder does not tell which graph to make {type_name}")
        return Offer(
            confidence=_CONFIDENCE,
            why=f"an ONNX graph, {graph}",
            makes="folder",
            private={_GRAPH: graph},
        )

    def quantize(
        self, work: Work, type_name: str, imatrix: Path | None = None
    ) -> Sequence[MadeFile]:
        """Write the folder anew.

        Raises:
            InvalidModelError: If the graph is damaged, or holds no weights to quantize.
        """
        del imatrix  # no type takes one
        os.environ.update(ENVIRONMENT)  # read when the library is imported, and never again
        from corral_onnx.weights import quantize

        return quantize(work, work.private[_GRAPH], _BITS[type_name])


def _decoder(source: Source) -> str:
    try:
        return genai_config(source.documents.get(GENAI_CONFIG)).model.decoder.filename
    except ValueError as error:
        raise UnsupportedError(f"{GENAI_CONFIG}: {error}") from None
