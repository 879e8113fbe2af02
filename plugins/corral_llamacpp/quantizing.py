"""Quantizing by the library, in a task process."""

import ctypes
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import MadeFile, Work
from corral_kernel.errors import TaskError
from corral_kernel.gguf import read_header
from corral_llamacpp.binding import lib
from corral_llamacpp.imatrix import read_imatrix
from corral_llamacpp.native import NativeLog
from corral_llamacpp.types import FILE_TYPES

_MADE: Final = "model.gguf"
_ROWS_BYTES: Final = 512 << 20  # rows of a tensor that are in memory at once
# As in: [   2/  20] token_embd.weight   - [ 64, 259, 1, 1], type = f32, …
_TENSOR: Final = re.compile(r"^\[ *(\d+)/ *\d+\] +(\S+) ")


def quantize(work: Work, type_name: str, imatrix: Path | None) -> Sequence[MadeFile]:
    """Quantize a GGUF file.

    Raises:
        TaskError: With the library's own reason.
        InvalidModelError: If the model or the importance matrix is damaged.
    """
    (model,) = (Path(file.path) for file in work.files)
    matrix = read_imatrix(imatrix) if imatrix else {}
    params = lib.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[type_name].number
    params.max_buf_size = _ROWS_BYTES
    entries, keep_alive = _entries(matrix)
    if entries is not None:
        params.imatrix = entries
    log = NativeLog(_Progress(model, work.report).hear)
    lib.llama_backend_init()
    made = work.folder / _MADE
    status = lib.llama_model_quantize(os.fsencode(model), os.fsencode(made), ctypes.byref(params))
    del keep_alive
    if status or not made.exists():
        raise TaskError(f"llama.cpp could not quantize: {log.troubles() or 'it gave no reason'}")
    return [MadeFile(name=_MADE)]


def _entries(
    matrix: Mapping[str, NDArray[np.float32]],
) -> tuple["ctypes.Array[lib.llama_model_imatrix_data] | None", object]:
    """Give an importance matrix as the library takes it, and what must outlive the call."""
    if not matrix:
        return None, None
    # One entry more than there are: the library reads on to one without a name.
    array = (lib.llama_model_imatrix_data * (len(matrix) + 1))()
    for entry, (name, values) in zip(array, matrix.items(), strict=False):
        entry.name = name.encode()
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = values.size
    return array, matrix


class _Progress:
    """Tells how far the library is, by the line that it prints before each tensor."""

    def __init__(self, model: Path, report: Callable[[int, int], None]) -> None:
        header = read_header(model)
        self._sizes = {tensor.name: tensor.size_bytes for tensor in header.tensors}
        self._total = sum(self._sizes.values())
        self._report = report
        self._done = 0
        self._current = 0
        report(0, self._total)

    def hear(self, line: str) -> None:
        """Take one line."""
        if found := _TENSOR.match(line):
            self._done += self._current
            self._current = self._sizes.get(found[2], 0)
            self._report(self._done, self._total)
