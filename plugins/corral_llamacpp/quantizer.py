"""llama.cpp's own quantizer, as a plugin's. Light: the library is imported in a task process."""

from collections.abc import Sequence
from pathlib import Path

from corral_kernel.contracts import MadeFile, Offer, Quantizer, Source, Work
from corral_llamacpp.claim import NAME
from corral_llamacpp.types import TYPES, offer


class LlamaQuantizer(Quantizer):
    """Makes GGUF models smaller."""

    name = NAME
    docs = "GGUF models to all types of llama.cpp, with importance matrices"
    library = "llama_cpp"
    extra = "corral[llamacpp]"
    types = TYPES

    def offer(self, source: Source, type_name: str) -> Offer | None:
        """Bid for a GGUF model of full or half precision."""
        return offer(source, type_name)

    def quantize(
        self, work: Work, type_name: str, imatrix: Path | None = None
    ) -> Sequence[MadeFile]:
        """Quantize in this process."""
        from corral_llamacpp.quantizing import quantize

        return quantize(work, type_name, imatrix)
