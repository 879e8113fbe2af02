"""The safetensors format: a header of JSON, checked before anything of it is used.

Data is read, not mapped: a file that becomes shorter meanwhile is then an error, where a mapping
would end the process, and no page of it counts as this process's memory.
"""

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral_kernel.errors import InvalidModelError, UnsupportedError

_LENGTH_BYTES: Final = 8
_SHORTEST_HEADER: Final = 2  # of no tensor: {}
_MOST_HEADER_BYTES: Final = 64 * 1024 * 1024
_MOST_TENSORS: Final = 200_000
_MOST_NAME: Final = 1024
_MOST_DIMENSIONS: Final = 8
_METADATA: Final = "__metadata__"

# Names of the format, and how many bytes an element takes.
_SIZES: Final = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2"), 1),
}
# What this reader turns into numbers; a bfloat16 comes as the 16 bits it is.
_READABLE: Final[dict[str, np.dtype[Any]]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

_Natural = Annotated[int, msgspec.Meta(ge=0)]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: list[_Natural]
    data_offsets: tuple[_Natural, _Natural]


_HEADER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY: Final = msgspec.json.Decoder(_Entry)


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file.

    Args:
        name: What the file calls it.
        dtype: The format's name for its type.
        shape: Its dimensions, the slowest first.
        path: Of the file.
        offset: Of its first byte in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of the first dimension; of all of it, if it has none."""
        return prod(self.shape[1:]) * _SIZES[self.dtype]

    def blocks(self, first: int, last: int, step: int) -> Iterator[NDArray[Any]]:
        """Its rows from `first` up to before `last`, `step` at a time, in memory of their own.

        Raises:
            InvalidModelError: If the file has become shorter since its header was read.
            UnsupportedError: If it holds what is no floating-point number.
        """
        kind = _READABLE.get(self.dtype)
        if kind is None:
            raise UnsupportedError(
                f"tensor {self.name} is stored as {self.dtype}; "
                f"weights of {', '.join(sorted(_READABLE))} can be converted"
            )
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset + first * self.row_bytes)
            for start in range(first, last, step):
                rows = min(step, last - start)
                block = np.empty((rows, *self.shape[1:]), kind)
                self._fill(file.fileno(), block.reshape(-1).view(np.uint8).data)
                yield block

    def _fill(self, descriptor: int, room: memoryview) -> None:
        done = 0
        while done < len(room):
            count = os.readv(descriptor, [room[done:]])
            if not count:
                raise InvalidModelError(
                    f"{self.path.name} ends in the middle of tensor {self.name}: "
                    "it became shorter while it was read"
                )
            done += count


def stored_tensors(path: Path, name: str) -> list[Stored]:
    """What a file holds, in the order of its bytes.

    Args:
        path: Of the file.
        name: What messages call it.

    Raises:
        InvalidModelError: If it is no such file, or its header says what cannot be.
    """
    with _opened(path, name) as file:
        size = os.fstat(file.fileno()).st_size
        header_bytes = _header_length(file.read(_LENGTH_BYTES), size, name)
        header = file.read(header_bytes)
    if len(header) != header_bytes:
        raise InvalidModelError(f"{name} became shorter while it was read")
    start = _LENGTH_BYTES + header_bytes
    tensors = [
        _checked(tensor, entry, path, start, name) for tensor, entry in _entries(header, name)
    ]
    tensors.sort(key=lambda tensor: tensor.offset)
    _check_places(tensors, start, size, name)
    return tensors


def _opened(path: Path, name: str) -> io.FileIO:
    if not stat.S_ISREG(path.stat().st_mode):
        raise InvalidModelError(f"{name} is no regular file")
    return io.FileIO(path)


def _header_length(first: bytes, size: int, name: str) -> int:
    length = int.from_bytes(first, "little")
    if len(first) < _LENGTH_BYTES or not _SHORTEST_HEADER <= length <= size - _LENGTH_BYTES:
        raise InvalidModelError(
            f"{name} is no safetensors file, or was cut off: "
            f"it has {size} bytes, and its header would take {length}"
        )
    if length > _MOST_HEADER_BYTES:
        raise InvalidModelError(
            f"{name} has a header of {length} bytes; at most {_MOST_HEADER_BYTES} are read"
        )
    return length


def _entries(header: bytes, name: str) -> list[tuple[str, _Entry]]:
    try:
        raw = _HEADER.decode(header)
        raw.pop(_METADATA, None)
        if len(raw) > _MOST_TENSORS:
            raise InvalidModelError(f"{name} lists {len(raw)} tensors; at most {_MOST_TENSORS}")
        return [(tensor, _ENTRY.decode(entry)) for tensor, entry in raw.items()]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidModelError(f"the header of {name} cannot be read: {error}") from None


def _checked(tensor: str, entry: _Entry, path: Path, start: int, name: str) -> Stored:
    if not tensor or len(tensor) > _MOST_NAME:
        raise InvalidModelError(f"{name} has a tensor whose name is {len(tensor)} long")
    element = _SIZES.get(entry.dtype)
    if element is None:
        raise InvalidModelError(f"tensor {tensor} of {name} has the unknown type {entry.dtype!r}")
    if len(entry.shape) > _MOST_DIMENSIONS:
        raise InvalidModelError(f"tensor {tensor} of {name} has {len(entry.shape)} dimensions")
    begin, end = entry.data_offsets
    if prod(entry.shape) * element != end - begin:
        raise InvalidModelError(
            f"tensor {tensor} of {name}: {entry.dtype} of shape {entry.shape} "
            f"does not take the {end - begin} bytes from {begin} to {end}"
        )
    return Stored(tensor, entry.dtype, tuple(entry.shape), path, start + begin)


def _check_places(tensors: list[Stored], start: int, size: int, name: str) -> None:
    position = start
    for tensor in tensors:
        if tensor.offset != position:
            raise InvalidModelError(
                f"tensor {tensor.name} of {name} begins at byte {tensor.offset}, "
                f"where {position} is expected: tensors follow each other without gap or overlap"
            )
        position += prod(tensor.shape) * _SIZES[tensor.dtype]
    if position != size:
        raise InvalidModelError(
            f"{name} has {size} bytes, but by its header {position}: it was cut off or added to"
        )
