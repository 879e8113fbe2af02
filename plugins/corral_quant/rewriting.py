"""Writes a GGUF file anew with its tensors in another type, by the `gguf` package and numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import GgufHeader, TensorInfo, Value, ValueType, read_header, read_value
from corral_quant.rules import FileType, tensor_types

_PIECE_ELEMENTS: Final = 1 << 22
"""So many numbers are in memory at once: 16 MiB of them, and what numpy needs beside."""
_VERSION: Final = 2  # of the layout of blocks, which `general.quantization_version` tells
_REWRITTEN: Final = ("general.architecture", "general.file_type", "general.quantization_version")
_ALIGNMENT: Final = "general.alignment"
_STORED: Final[dict[int, np.dtype[Any]]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f2"),
    30: np.dtype("<u2"),
}


def rewrite(source: Path, out: Path, wanted: FileType, report: Callable[[int, int], None]) -> None:
    """Quantize a file.

    Args:
        source: A GGUF file; tensors of other types than F32, F16 and BF16 stay as they are.
        out: What to write.
        wanted: The type.
        report: Is told how many bytes of the source's tensors are done, of how many.

    Raises:
        InvalidModelError: If the file is damaged, or holds what is no number.
        OSError: If one cannot be read, or the other not be written.
    """
    header = read_header(source)
    types = tensor_types(header.tensors, wanted)
    writer = gguf.GGUFWriter(out, header.architecture)
    _copy_metadata(source, header, writer, wanted)
    for tensor in header.tensors:
        kind = gguf.GGMLQuantizationType(types[tensor.name])
        shape = tuple(reversed(tensor.shape))
        stored = gguf.quant_shape_to_byte_shape(shape, kind)
        size = int(np.prod(stored, dtype=np.int64))
        # The shape in bytes, which the writer turns back by the type.
        writer.add_tensor_info(tensor.name, stored, np.dtype(np.uint8), size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.flush()
    try:
        _write_tensors(source, header, types, writer, report)
    finally:
        writer.close()


def _copy_metadata(
    source: Path, header: GgufHeader, writer: gguf.GGUFWriter, wanted: FileType
) -> None:
    writer.add_file_type(wanted.number)
    writer.add_quantization_version(_VERSION)
    for key, value in header.metadata.items():
        if key in _REWRITTEN or (value.type is ValueType.ARRAY and not value.count):
            continue  # an empty array says what no array says
        content = _content(source, value)
        if key == _ALIGNMENT:
            writer.add_custom_alignment(content)
            continue
        inner = None if value.item_type is None else gguf.GGUFValueType(value.item_type)
        writer.add_key_value(key, content, gguf.GGUFValueType(value.type), inner)


def _content(source: Path, value: Value) -> Any:
    content = value.content if value.content is not None else read_value(source, value)
    return list(content) if isinstance(content, tuple) else content


def _write_tensors(
    source: Path,
    header: GgufHeader,
    types: dict[str, int],
    writer: gguf.GGUFWriter,
    report: Callable[[int, int], None],
) -> None:
    done, total = 0, header.tensor_bytes
    assert writer.fout is not None, "the header is written"
    file = writer.fout[0]
    with source.open("rb") as given:
        for tensor in header.tensors:
            writer.write_padding(file, file.tell())
            kind = types[tensor.name]
            for piece, size in _pieces(given, header, tensor, kind):
                file.write(piece)
                done += size
                report(done, total)
            writer.write_padding(file, file.tell())


def _pieces(
    given: IO[bytes], header: GgufHeader, tensor: TensorInfo, kind: int
) -> Iterator[tuple[bytes, int]]:
    """The bytes of a tensor in its new type, and how many of the source each piece is."""
    given.seek(header.data_offset + tensor.offset)
    row_bytes = tensor.size_bytes // max(1, tensor.elements // tensor.shape[0])
    rows = max(1, _PIECE_ELEMENTS // max(1, tensor.shape[0]))
    left = tensor.size_bytes
    while left:
        raw = given.read(min(left, rows * row_bytes))
        if not raw:
            raise InvalidModelError(f"the file ends within tensor {tensor.name!r}: fetch it again")
        left -= len(raw)
        if kind == tensor.type:
            yield raw, len(raw)
        else:
            numbers = _numbers(raw, tensor)
            blocks = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType(kind))
            yield np.ascontiguousarray(blocks).tobytes(), len(raw)


def _numbers(raw: bytes, tensor: TensorInfo) -> NDArray[np.float32]:
    stored = np.frombuffer(raw, _STORED[tensor.type])
    if tensor.type == gguf.GGMLQuantizationType.BF16:
        numbers: NDArray[np.float32] = (stored.astype(np.uint32) << 16).view(np.float32)
    else:
        numbers = stored.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise InvalidModelError(
            f"tensor {tensor.name!r} holds what is no finite number: it cannot be quantized"
        )
    return numbers.reshape(-1, tensor.shape[0])
