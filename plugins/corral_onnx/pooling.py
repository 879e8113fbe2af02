"""From the rows of a text's tokens to its vector, as the files of Sentence Transformers say."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral_kernel.errors import InvalidModelError
from corral_onnx.config import section

Pooling = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]]
"""From rows `(texts, tokens, width)` and which are no padding to vectors `(texts, width)`."""

_CONFIG = "1_Pooling/config.json"
_PREFIX = "pooling_mode_"
_WITHOUT_WEIGHTS = frozenset({"Transformer", "Pooling", "Normalize"})


def pooling_of(documents: Mapping[str, Any]) -> Pooling:
    """Tell how a model pools; by the mean if its files do not say.

    Raises:
        InvalidModelError: If it pools in a way that is not known here, or has layers after it.
    """
    config = section(documents, _CONFIG)
    modes = [name.removeprefix(_PREFIX) for name, on in config.items() if _is_mode(name, on)]
    if len(modes) > 1 or any(mode not in _KNOWN for mode in modes):
        raise InvalidModelError(
            f"{_CONFIG} pools by {' and '.join(sorted(modes))}; known is one of {', '.join(_KNOWN)}"
        )
    modules = documents.get("modules.json")
    for module in modules if isinstance(modules, list) else ():
        kind = str(module.get("type", "")) if isinstance(module, dict) else ""
        if kind.rpartition(".")[2] not in _WITHOUT_WEIGHTS:
            raise InvalidModelError(f"modules.json has a layer {kind!r}, which is in no graph here")
    return _KNOWN[modes[0]] if modes else _mean


def _is_mode(name: str, value: Any) -> bool:
    return name.startswith(_PREFIX) and value is True


def _mean(rows: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    return _summed(rows, mask, 1.0)


def _mean_root(rows: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    return _summed(rows, mask, 0.5)


def _summed(
    rows: NDArray[np.float32], mask: NDArray[np.bool_], power: float
) -> NDArray[np.float32]:
    counts = np.maximum(mask.sum(axis=1, keepdims=True), 1) ** power
    summed: NDArray[np.float32] = np.where(mask[:, :, None], rows, 0).sum(axis=1)
    mean: NDArray[np.float32] = (summed / counts).astype(np.float32)
    return mean


def _max(rows: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    highest: NDArray[np.float32] = np.where(mask[:, :, None], rows, -np.inf).max(axis=1)
    return highest


def _first(rows: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    del mask
    return rows[:, 0]


def _last(rows: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    last: NDArray[np.float32] = rows[np.arange(len(rows)), mask.sum(axis=1) - 1]
    return last


_KNOWN: dict[str, Pooling] = {
    "cls_token": _first,
    "lasttoken": _last,
    "max_tokens": _max,
    "mean_sqrt_len_tokens": _mean_root,
    "mean_tokens": _mean,
}
