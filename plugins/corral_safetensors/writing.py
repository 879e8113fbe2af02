"""GGUF files written piece by piece: never more than one piece of a tensor is in memory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import gguf
import numpy as np

from corral_safetensors.tensors import KINDS, Outgoing, size_bytes

# Told how many bytes of tensors are written, and of how many.
Report = Callable[[int, int], None]
_PADDING: Final = b"\0"


def write_file(
    writer: gguf.GGUFWriter, tensors: Sequence[Outgoing], out: Path, report: Report
) -> None:
    """Write what a writer was told, and tensors after it.

    Args:
        writer: Without a file so far.
        tensors: In their order.
        out: Where to; what is there is overwritten.
        report: Told of progress.
    """
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name,
            tensor.shape,
            np.dtype(np.float32),
            size_bytes(tensor),
            raw_dtype=KINDS[tensor.out_type],
        )
    writer.write_header_to_file(path=out)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    _append(tensors, out, writer.data_alignment, report)


def _append(tensors: Sequence[Outgoing], out: Path, alignment: int, report: Report) -> None:
    total = sum(map(size_bytes, tensors))
    done = 0
    report(done, total)
    with out.open("ab") as file:
        for tensor in tensors:
            file.write(_PADDING * (-file.tell() % alignment))
            for block in tensor.blocks():
                file.write(block)
                done += len(block)
                report(done, total)
        file.write(_PADDING * (-file.tell() % alignment))
