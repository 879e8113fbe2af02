"""Importance matrices: what `llama-imatrix` writes, as GGUF or in its older form.

Each holds, for the columns of a tensor, the mean square of what they were multiplied with over some
text. Quantizers keep the columns that matter the most exact.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import MAGIC, GgufHeader, TensorInfo, read_header

_SUMS: Final = ".in_sum2"
_COUNTS: Final = ".counts"
_INT: Final = struct.Struct("<i")
_MOST_ENTRIES: Final = 1 << 16
_LONGEST_NAME: Final = 1 << 10
_MOST_COLUMNS: Final = 1 << 26


def read_imatrix(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a file of either form.

    Returns:
        By the name of a tensor, one number for each column, of each expert in turn.

    Raises:
        InvalidModelError: If it is no importance matrix, or a damaged one.
    """
    with path.open("rb") as stream:
        is_gguf = stream.read(len(MAGIC)) == MAGIC
    try:
        found = dict(_from_gguf(path) if is_gguf else _from_old(path))
    except (struct.error, ValueError, EOFError) as error:
        raise InvalidModelError(f"the importance matrix is damaged: {error}") from error
    if not found:
        raise InvalidModelError("the importance matrix holds nothing")
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise InvalidModelError(f"the importance matrix holds NaN or infinity for {name}")
    return found


def _from_gguf(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    header = read_header(path)
    if header.kind != "imatrix":
        raise InvalidModelError(
            f"the importance matrix is a GGUF file of type {header.kind!r}, not 'imatrix'"
        )
    tensors = {tensor.name: tensor for tensor in header.tensors}
    with path.open("rb") as stream:
        for name, tensor in tensors.items():
            counts = tensors.get(name.removesuffix(_SUMS) + _COUNTS)
            if not name.endswith(_SUMS) or counts is None:
                continue
            sums = _numbers(stream, header, tensor)
            seen = _numbers(stream, header, counts)
            if not len(seen) or len(sums) % len(seen):
                raise ValueError(f"{len(sums)} sums of {len(seen)} counts for {name}")
            yield name.removesuffix(_SUMS), _means(sums.reshape(len(seen), -1), seen)


def _numbers(stream: BinaryIO, header: GgufHeader, tensor: TensorInfo) -> NDArray[np.float32]:
    if tensor.type_name != "F32" or tensor.elements > _MOST_COLUMNS:
        raise ValueError(f"{tensor.name} holds {tensor.elements} numbers of {tensor.type_name}")
    stream.seek(header.data_offset + tensor.offset)
    return np.frombuffer(_exactly(stream, tensor.size_bytes), "<f4").astype(np.float32)


def _means(sums: NDArray[np.float32], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of each row; an expert that met nothing has all columns alike."""
    met = counts > 0
    means = np.ones_like(sums)
    means[met] = sums[met] / counts[met, None]
    return np.ascontiguousarray(means.ravel(), np.float32)


def _from_old(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    with path.open("rb") as stream:
        for _ in range(_integer(stream, _MOST_ENTRIES)):
            name = _exactly(stream, _integer(stream, _LONGEST_NAME)).decode()
            calls = _integer(stream, 1 << 30)
            columns = _integer(stream, _MOST_COLUMNS)
            sums = np.frombuffer(_exactly(stream, 4 * columns), "<f4").astype(np.float32)
            yield name, sums / np.float32(max(calls, 1))


def _integer(stream: BinaryIO, most: int) -> int:
    (value,) = _INT.unpack(_exactly(stream, _INT.size))
    if not 0 <= value <= most:
        raise ValueError(f"a count of {value}, which is over {most} or none")
    return int(value)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("it ends too early")
    return data
