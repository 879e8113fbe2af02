"""The quantizer for machines without llama.cpp: the simple types, by numpy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from corral_kernel.contracts import MadeFile, Offer, QuantizationType, Quantizer, Source, Work
from corral_quant.rules import FILE_TYPES, find_type

_CONFIDENCE: Final = 0.3  # llama.cpp's own is ten times as fast, and knows more types
_OUT: Final = "model.gguf"
_UNQUANTIZED: Final = frozenset({"F32", "F16", "BF16"})


class NumpyQuantizer(Quantizer):
    """Writes the same blocks as llama.cpp does, in types that numpy makes without loops."""

    name = "numpy"
    docs = "GGUF files, the simple types, where llama.cpp is not installed"
    library = "gguf"
    extra = "corral[quant]"
    types = tuple(
        QuantizationType(name=kind.name, bits=kind.bits, docs=kind.docs) for kind in FILE_TYPES
    )

    def offer(self, source: Source, type_name: str) -> Offer | None:
        """Bid for a model of one GGUF file that is not quantized."""
        if source.kind != "model" or source.format != "gguf" or len(source.files) != 1:
            return None
        wanted = find_type(type_name)
        if wanted is None or source.file_type not in _UNQUANTIZED:
            return None
        return Offer(
            confidence=_CONFIDENCE,
            why="a GGUF file that is not quantized",
            size_bytes=int(source.parameters * wanted.bits / 8),
        )

    def quantize(
        self, work: Work, type_name: str, imatrix: Path | None = None
    ) -> Sequence[MadeFile]:
        """Write the file anew.

        Raises:
            InvalidModelError: If it is damaged, or holds what is no number.
        """
        del imatrix  # no type takes one
        from corral_quant.rewriting import rewrite

        wanted = find_type(type_name)
        assert wanted is not None, "it is one of the types"
        (source,) = (Path(file.path) for file in work.files)
        rewrite(source, work.folder / _OUT, wanted, work.report)
        return [MadeFile(name=_OUT, role="weights")]
