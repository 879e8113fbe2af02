"""Whether a LoRA adapter fits the weights that it is to change, by the heads of both.

Native code that multiplies matrices of other shapes ends its process.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf.header import GgufHeader, TensorInfo

_DOWN: Final = ".lora_a"
_UP: Final = ".lora_b"
_ROWS_ARE_LOOKED_UP: Final = "token_embd.weight"  # and so llama.cpp has its pair transposed
_DIMENSIONS: Final = 4

Shape = tuple[int, ...]


def check_adapter(adapter: GgufHeader, weights: Iterable[TensorInfo]) -> None:
    """Compare the shapes of an adapter's matrices with those of the weights.

    Args:
        adapter: Of tensors `NAME.lora_a` and `NAME.lora_b`; others are not looked at.
        weights: All tensors of the model.

    Raises:
        InvalidModelError: If it is for another model, or half of a pair is missing.
    """
    theirs = {tensor.name: _whole(tensor) for tensor in weights}
    ours = {tensor.name: _whole(tensor) for tensor in adapter.tensors}
    for name in dict.fromkeys(n.removesuffix(_DOWN).removesuffix(_UP) for n in ours):
        if name not in ours:
            _check_pair(name, ours, theirs.get(name))


def _check_pair(name: str, ours: Mapping[str, Shape], wanted: Shape | None) -> None:
    down, up = ours.get(name + _DOWN), ours.get(name + _UP)
    if down is None or up is None:
        lacking = _DOWN if down is None else _UP
        raise InvalidModelError(f"it is damaged: {name}{lacking} is missing")
    if wanted is None:
        raise InvalidModelError(
            f"it is for another model: it changes {name}, which is not in this one"
        )
    if name == _ROWS_ARE_LOOKED_UP:
        inner, changed = (down[0], up[0]), (up[1], down[1])
    else:
        inner, changed = (down[1], up[0]), (down[0], up[1])
    if inner[0] != inner[1] or down[2:] != up[2:]:
        raise InvalidModelError(
            f"it is damaged: the matrices for {name}, of {_text(down)} and {_text(up)}, "
            "cannot be multiplied"
        )
    if (*changed, *down[2:]) != wanted:
        raise InvalidModelError(
            f"it is for another model: it changes {name} of {_text((*changed, *down[2:]))}, "
            f"which is of {_text(wanted)} in this one"
        )


def _whole(tensor: TensorInfo) -> Shape:
    return (*tensor.shape, *[1] * (_DIMENSIONS - len(tensor.shape)))


def _text(shape: Shape) -> str:
    kept = max(2, *(place for place, size in enumerate(shape, 1) if size > 1), 0)
    return " x ".join(map(str, shape[:kept]))
