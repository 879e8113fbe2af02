"""A graph on plain ONNX Runtime: texts' ids in, rows out."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from corral_kernel.errors import EngineError, LoadError
from corral_onnx.graph import read_graph
from corral_onnx.native import reason

_ELEMENTS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_SCORES = ("logits",)
_POOLED = "sentence_embedding"
_OUTPUTS = (_POOLED, "last_hidden_state", "token_embeddings")
MIXES_ROWS = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul"})
"""Operators that round all rows of a run by the largest of their numbers."""
_VECTORS, _ROWS = 2, 3  # dimensions of an output that is pooled, and of one that is not


def open_session(
    path: Path, options: ort.SessionOptions, providers: list[str]
) -> ort.InferenceSession:
    """Open a graph once: by itself the library prints what failed, and tries it again."""
    return ort.InferenceSession(os.fspath(path), options, providers, enable_fallback=0)


class Session:
    """A loaded graph.

    Args:
        path: Of the `.onnx` file.
        threads: Of the CPU; 0: the library's choice.
        providers: Where it runs, in the library's words.
        scores: Whether it is to give scores, not vectors.

    Attributes:
        pools: It gives vectors by a name that says that nothing is to be done to them.
        mixes_texts: Numbers are rounded by the largest of all texts of a run, so that a text's
            vector would depend on those beside it.

    Raises:
        LoadError: If the library cannot load it, or it wants other inputs than texts have.
    """

    def __init__(
        self, path: Path, threads: int, providers: Sequence[str], *, scores: bool = False
    ) -> None:
        try:
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            self._native = open_session(path, options, list(providers))
            self.mixes_texts = not MIXES_ROWS.isdisjoint(read_graph(path).operators)
        except Exception as error:
            raise LoadError(f"ONNX Runtime cannot load {path.name}: {reason(error)}") from error
        self._inputs = {i.name: _ELEMENTS.get(i.type) for i in self._native.get_inputs()}
        for name, element in self._inputs.items():
            if name not in _INPUTS or element is None:
                raise LoadError(f"{path.name} wants an input {name!r}, which is not of a text")
        outputs = [output.name for output in self._native.get_outputs()]
        known = [name for name in (_SCORES if scores else _OUTPUTS) if name in outputs]
        self._output = known[0] if known else outputs[0]
        self.pools = self._output == _POOLED

    def run(
        self, texts: Sequence[Sequence[int]], types: Sequence[Sequence[int]]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Run texts together.

        Args:
            texts: Token ids of each, at least one.
            types: Of each token, to which part of a pair it belongs.

        Returns:
            Rows `(texts, tokens, width)`, or vectors or scores `(texts, width)`; and which of
            the tokens are no padding `(texts, tokens)`.

        Raises:
            EngineError: With the library's own reason.
        """
        shape = (len(texts), max(map(len, texts)))
        ids, kinds = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        mask = np.zeros(shape, np.bool_)
        for row, (text, kind) in enumerate(zip(texts, types, strict=True)):
            ids[row, : len(text)] = text
            kinds[row, : len(text)] = kind
            mask[row, : len(text)] = True
        places = np.broadcast_to(np.arange(shape[1]), shape)
        values = dict(zip(_INPUTS, (ids, mask, kinds, places), strict=True))
        feed = {name: values[name].astype(element) for name, element in self._inputs.items()}
        try:
            (found,) = self._native.run([self._output], feed)
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {reason(error)}") from error
        rows = np.asarray(found, np.float32)
        if rows.ndim not in (_VECTORS, _ROWS) or len(rows) != len(texts):
            raise EngineError(f"the graph gave {self._output} of shape {rows.shape}")
        return rows, mask

    def close(self) -> None:
        """Free the graph."""
        del self._native
