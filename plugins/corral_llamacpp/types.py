"""The types that llama.cpp quantizes GGUF models to, and what it offers. Light."""

from typing import Final, Literal, NamedTuple

from corral_kernel.contracts import Offer, QuantizationType, Source

_FULL_BITS: Final = {"F32": 32, "F16": 16, "BF16": 16}
_MARGIN: Final = 1.15  # tensors that stay larger, metadata, what a small model rounds up


class FileType(NamedTuple):
    """One type.

    Attributes:
        number: llama.cpp's `llama_ftype`.
        bits: For each weight, as measured on models of some billion weights.
        docs: For people.
        imatrix: What an importance matrix is to it.
    """

    number: int
    bits: float
    docs: str
    imatrix: Literal["takes", "needs", "none"] = "takes"


FILE_TYPES: Final[dict[str, FileType]] = {
    "F32": FileType(0, 32.0, "as the weights of a training are", "none"),
    "F16": FileType(1, 16.0, "half precision", "none"),
    "BF16": FileType(32, 16.0, "half precision with the range of F32", "none"),
    "Q8_0": FileType(7, 8.5, "next to no loss", "none"),
    "Q6_K": FileType(18, 6.56, "very little loss"),
    "Q5_K_M": FileType(17, 5.7, "little loss"),
    "Q5_K_S": FileType(16, 5.57, "little loss"),
    "Q5_1": FileType(9, 6.0, "of before the K types"),
    "Q5_0": FileType(8, 5.5, "of before the K types"),
    "Q4_K_M": FileType(15, 4.89, "the usual choice"),
    "Q4_K_S": FileType(14, 4.67, "somewhat smaller than Q4_K_M"),
    "Q4_1": FileType(3, 5.0, "of before the K types"),
    "Q4_0": FileType(2, 4.6, "of before the K types; quick on some processors"),
    "IQ4_NL": FileType(25, 4.56, "4 bits on a curve"),
    "IQ4_XS": FileType(30, 4.32, "4 bits on a curve, in larger blocks"),
    "Q3_K_L": FileType(13, 4.22, "some loss"),
    "Q3_K_M": FileType(12, 3.89, "some loss"),
    "IQ3_M": FileType(27, 3.66, "better than Q3_K_S at that size"),
    "IQ3_S": FileType(26, 3.48, "better than Q3_K_S at that size"),
    "Q3_K_S": FileType(11, 3.48, "noticeable loss"),
    "IQ3_XS": FileType(22, 3.3, "noticeable loss", "needs"),
    "IQ3_XXS": FileType(23, 3.06, "noticeable loss", "needs"),
    "Q2_K": FileType(10, 3.0, "large loss"),
    "Q2_K_S": FileType(21, 2.79, "large loss", "needs"),
    "IQ2_M": FileType(29, 2.7, "large loss", "needs"),
    "IQ2_S": FileType(28, 2.5, "large loss", "needs"),
    "IQ2_XS": FileType(20, 2.31, "large loss", "needs"),
    "Q2_0": FileType(41, 2.25, "for models that were trained for it", "none"),
    "IQ2_XXS": FileType(19, 2.06, "large loss", "needs"),
    "TQ2_0": FileType(37, 2.06, "for models of three values", "none"),
    "IQ1_M": FileType(31, 1.75, "very large loss", "needs"),
    "TQ1_0": FileType(36, 1.69, "for models of three values", "none"),
    "IQ1_S": FileType(24, 1.56, "very large loss", "needs"),
    "Q1_0": FileType(40, 1.13, "for models that were trained for it", "none"),
    "MXFP4_MOE": FileType(38, 4.25, "MXFP4 for experts, Q8_0 for the rest", "none"),
}

TYPES: Final = tuple(
    QuantizationType(name=name, bits=kind.bits, docs=kind.docs, imatrix=kind.imatrix)
    for name, kind in FILE_TYPES.items()
)


def offer(source: Source, type_name: str) -> Offer | None:
    """Bid for a GGUF model of full or half precision."""
    full = _FULL_BITS.get(source.file_type)
    kind = FILE_TYPES.get(type_name)
    if source.format != "gguf" or source.kind != "model" or full is None or kind is None:
        return None
    return Offer(
        confidence=0.9,
        why="llama.cpp's own quantizer",
        size_bytes=int(source.size_bytes * kind.bits / full * _MARGIN),
    )
