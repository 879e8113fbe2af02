"""Tensors on their way from one file to another, a bounded piece of them in memory at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any, Final, Protocol

import gguf
import numpy as np
from numpy.typing import NDArray

from corral_kernel.errors import UnsupportedError
from corral_safetensors.reader import Stored

_BLOCK_BYTES: Final = 16 * 1024 * 1024


class OutOfRangeError(UnsupportedError):
    """A number that the type which is written cannot hold."""


class OutType(Enum):
    """What matrices are written as; all else is float32."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"


KINDS: Final = {
    OutType.F32: gguf.GGMLQuantizationType.F32,
    OutType.F16: gguf.GGMLQuantizationType.F16,
    OutType.BF16: gguf.GGMLQuantizationType.BF16,
}
FILE_TYPES: Final = {
    OutType.F32: gguf.LlamaFileType.ALL_F32,
    OutType.F16: gguf.LlamaFileType.MOSTLY_F16,
    OutType.BF16: gguf.LlamaFileType.MOSTLY_BF16,
}
_SAME: Final = {"F32": OutType.F32, "F16": OutType.F16, "BF16": OutType.BF16}
_ELEMENT_BYTES: Final = {OutType.F32: 4, OutType.F16: 2, OutType.BF16: 2}


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a tensor's numbers.

    Args:
        heads: Attention heads whose rows are brought from halves to pairs; 0 for none.
        shift: Added to each number.
        skipped_rows: Rows at its beginning that are left out.
    """

    heads: int = 0
    shift: float = 0.0
    skipped_rows: int = 0


NO_CHANGE: Final = Change()


class Outgoing(Protocol):
    """A tensor as it will stand in the new file."""

    @property
    def name(self) -> str:
        """What the file calls it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions, the slowest first."""

    @property
    def out_type(self) -> OutType:
        """What its numbers are written as."""

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, in bounded pieces."""


def size_bytes(tensor: Outgoing) -> int:
    """How many bytes a tensor takes in the new file."""
    return prod(tensor.shape) * _ELEMENT_BYTES[tensor.out_type]


@dataclass(frozen=True, slots=True)
class Moved:
    """A tensor of the source, under its new name.

    Args:
        name: What the new file calls it.
        stored: Where it is.
        out_type: What its numbers are written as.
        change: What becomes of them.
    """

    name: str
    stored: Stored
    out_type: OutType
    change: Change = NO_CHANGE

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions, the slowest first."""
        first, *others = self.stored.shape
        return (first - self.change.skipped_rows, *others)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, in bounded pieces.

        Raises:
            OutOfRangeError: If a number does not fit into 16 bits.
        """
        rows = self.stored.shape[0]
        for block in self.stored.blocks(self.change.skipped_rows, rows, self._step()):
            yield _written(self._turned(block), self.stored.dtype, self)

    def _step(self) -> int:
        step = max(1, _BLOCK_BYTES // max(1, self.stored.row_bytes))
        if self.change.heads:
            head = self.stored.shape[0] // self.change.heads
            step = max(1, step // head) * head
        return step

    def _turned(self, block: NDArray[Any]) -> NDArray[Any]:
        if not self.change.heads:
            return block
        head = self.stored.shape[0] // self.change.heads
        return paired(block, block.shape[0] // head)


def paired(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of each head brought from two halves to pairs, as llama.cpp rotates them."""
    shape = rows.shape
    halves = rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(shape))


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor that is computed here, small and of float32."""

    name: str
    numbers: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions, the slowest first."""
        return tuple(self.numbers.shape)

    @property
    def out_type(self) -> OutType:
        """What its numbers are written as."""
        return OutType.F32

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, all at once."""
        yield self.numbers.astype("<f4").tobytes()


def _written(block: NDArray[Any], dtype: str, tensor: Moved) -> bytes:
    if _SAME.get(dtype) is tensor.out_type and not tensor.change.shift:
        return block.tobytes()
    numbers = widened(block, dtype)
    if tensor.change.shift:
        numbers = numbers + np.float32(tensor.change.shift)
    if tensor.out_type is OutType.F32:
        return numbers.astype("<f4", copy=False).tobytes()
    if tensor.out_type is OutType.BF16:
        return gguf.quants.quantize(numbers, gguf.GGMLQuantizationType.BF16).tobytes()
    try:
        with np.errstate(over="raise"):
            return numbers.astype("<f2").tobytes()
    except FloatingPointError:
        raise OutOfRangeError(
            f"tensor {tensor.stored.name} has numbers beyond the range of float16; "
            "convert to bf16 or f32"
        ) from None


def widened(block: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Numbers as they were read, as float32."""
    if dtype == "BF16":
        return (block.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return block.astype(np.float32)
