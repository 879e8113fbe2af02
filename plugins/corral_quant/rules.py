"""Which type each tensor of a quantized file gets: llama.cpp's rules, as far as numpy can follow.

Source: `llama-quant.cpp` of llama.cpp, `tensor_allows_quantization` and the choice of a type. It
keeps the output layer at Q6_K, which only native code makes; here that is Q8_0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from corral_kernel.gguf import TensorInfo

F32, F16, BF16, Q4_0, Q8_0 = 0, 1, 30, 2, 8
"""Types of tensors, as `corral_kernel.gguf.GGML_TYPES` numbers them."""
SOURCES: Final = frozenset({F32, F16, BF16})


class FileType(NamedTuple):
    """A type of file.

    Attributes:
        name: As people write it.
        number: `general.file_type`.
        tensor: Type of most of its tensors.
        bits: A weight takes, on the average of those tensors.
        docs: For people.
    """

    name: str
    number: int
    tensor: int
    bits: float
    docs: str


FILE_TYPES: Final = tuple(
    FileType(*row)
    for row in (
        ("F32", 0, F32, 32.0, "as exact as any file"),
        ("F16", 1, F16, 16.0, "half precision"),
        ("BF16", 32, BF16, 16.0, "half precision with the range of F32"),
        ("Q8_0", 7, Q8_0, 8.5, "hardly worse than F16"),
        ("Q5_1", 9, 7, 6.0, "blocks of 32 with a scale and an offset"),
        ("Q5_0", 8, 6, 5.5, "blocks of 32 with a scale"),
        ("Q4_1", 3, 3, 5.0, "blocks of 32 with a scale and an offset"),
        ("Q4_0", 2, Q4_0, 4.5, "blocks of 32 with a scale"),
        ("TQ2_0", 37, 35, 2.06, "three values: for models that were trained so"),
        ("TQ1_0", 36, 34, 1.69, "three values: for models that were trained so"),
    )
)
_FLOATS: Final = frozenset({F32, F16, BF16})
_TERNARY: Final = frozenset({34, 35})
_BLOCK: Final = 32
_TERNARY_BLOCK: Final = 256
_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"

# Weights that are small, or looked up by row, and lose too much.
_KEPT: Final = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d.weight",
    "shortconv.conv.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
)
_KEPT_WHOLE: Final = ("position_embd.weight", "token_types.weight", "pos_embd.weight")
_LEAST_DIMENSIONS: Final = 2


def find_type(name: str) -> FileType | None:
    """The type of file of a name, in capitals; None: it is none of these."""
    return next((kind for kind in FILE_TYPES if kind.name == name), None)


def tensor_types(tensors: Iterable[TensorInfo], wanted: FileType) -> dict[str, int]:
    """The type that each tensor gets, by name."""
    given = tuple(tensors)
    tied = all(tensor.name != _OUTPUT for tensor in given)
    return {tensor.name: _type_of(tensor, wanted.tensor, tied=tied) for tensor in given}


def _type_of(tensor: TensorInfo, wanted: int, *, tied: bool) -> int:
    if tensor.type not in SOURCES or not _is_weight(tensor):
        return tensor.type
    if wanted in _FLOATS:
        return wanted
    if tensor.name == (_EMBEDDING if tied else _OUTPUT) or _is_row_of(tensor, wanted):
        return _fitting(tensor, Q8_0)
    return _fitting(tensor, wanted)


def _is_row_of(tensor: TensorInfo, wanted: int) -> bool:
    """Whether a tensor is looked up by rows, which types of three values would ruin."""
    return wanted in _TERNARY and tensor.name == _EMBEDDING


def _is_weight(tensor: TensorInfo) -> bool:
    name = tensor.name
    if not name.endswith("weight") or len(tensor.shape) < _LEAST_DIMENSIONS:
        return False
    return name not in _KEPT_WHOLE and not any(kept in name for kept in _KEPT)


def _fitting(tensor: TensorInfo, wanted: int) -> int:
    """The type that is wanted, or a simpler one where its blocks do not fit into a row."""
    if tensor.shape[0] % _BLOCK:
        return F16
    return Q4_0 if wanted in _TERNARY and tensor.shape[0] % _TERNARY_BLOCK else wanted
