"""GGUF files with another head: parts of a split one put together, metadata added.

    plan = merge([path, …])                 # InvalidModelError if they are no whole set
    for chunk in plan.chunks(): …           # the bytes of the new file, a few at a time
    plan.size_bytes

Tensors are copied as they are; of the metadata only what is asked for changes.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf.header import GgufHeader, TensorInfo
from corral_kernel.gguf.reader import DEFAULT_ALIGNMENT, MAGIC, read_records
from corral_kernel.gguf.types import ValueType

_VERSION: Final = 3
_SPLIT: Final = "split."
_HEAD: Final = struct.Struct("<4sIQQ")
_LENGTH: Final = struct.Struct("<Q")
_CODE: Final = struct.Struct("<I")
_PLACE: Final = struct.Struct("<IQ")
_CHUNK_BYTES: Final = 4 << 20


class _Copy(NamedTuple):
    """A tensor of the new file: where its bytes are, and how many."""

    path: Path
    offset: int
    size_bytes: int


class Rewriting:
    """A GGUF file that is to be written.

    Args:
        parts: Files that hold its tensors, each with its head.
        records: Its metadata.
    """

    def __init__(
        self, parts: Sequence[tuple[Path, GgufHeader]], records: Mapping[str, bytes]
    ) -> None:
        self._alignment = parts[0][1].integer("general.alignment") or DEFAULT_ALIGNMENT
        self._copies: list[_Copy] = []
        tensors: list[bytes] = []
        place = 0
        for path, header in parts:
            for tensor in header.tensors:
                tensors.append(_tensor_record(tensor, place))
                offset = header.data_offset + tensor.offset
                self._copies.append(_Copy(path, offset, tensor.size_bytes))
                place += tensor.size_bytes + self._padding(tensor.size_bytes)
        head = _HEAD.pack(MAGIC, _VERSION, len(tensors), len(records))
        head += b"".join(records.values()) + b"".join(tensors)
        self._head = head + bytes(self._padding(len(head)))
        self.size_bytes = len(self._head) + place

    def chunks(self) -> Iterator[bytes]:
        """Give the bytes of the file, in pieces of some megabytes at most.

        Raises:
            InvalidModelError: If one of the files became shorter.
            OSError: If one cannot be read.
        """
        for start in range(0, len(self._head), _CHUNK_BYTES):
            yield self._head[start : start + _CHUNK_BYTES]
        for copy in self._copies:
            yield from _read(copy)
            yield bytes(self._padding(copy.size_bytes))

    def _padding(self, size_bytes: int) -> int:
        return -size_bytes % self._alignment


def merge(paths: Sequence[Path]) -> Rewriting:
    """Put the parts of a split file together, in any order.

    Raises:
        InvalidModelError: If they do not make one whole file.
        OSError: If one cannot be read.
    """
    read = [(path, *read_records(path)) for path in paths]
    parts = sorted(read, key=lambda part: part[1].integer("split.no") or 0)
    _check([header for _, header, _ in parts])
    records = {key: raw for key, raw in parts[0][2].items() if not key.startswith(_SPLIT)}
    return Rewriting([(path, header) for path, header, _ in parts], records)


def with_text(path: Path, key: str, text: str) -> Rewriting:
    """Set one text of the metadata.

    Raises:
        InvalidModelError: If the file is damaged.
        OSError: If it cannot be read.
    """
    header, records = read_records(path)
    return Rewriting([(path, header)], {**records, key: _text_record(key, text)})


def _check(headers: Sequence[GgufHeader]) -> None:
    count = headers[0].split_count
    if any(header.split_count != count for header in headers):
        raise InvalidModelError("split GGUF files are of several sets: their counts differ")
    numbers = [header.integer("split.no") or 0 for header in headers]
    if missing := sorted(set(range(count)) - set(numbers)):
        raise InvalidModelError(
            f"split GGUF is incomplete: part {missing[0] + 1} of {count} is missing"
        )
    if len(numbers) > count:
        raise InvalidModelError(f"split GGUF has {len(numbers)} parts, and should have {count}")
    names = [tensor.name for header in headers for tensor in header.tensors]
    if len(set(names)) < len(names):
        raise InvalidModelError("split GGUF holds a tensor twice")
    told = headers[0].integer("split.tensors.count")
    if told is not None and told != len(names):
        raise InvalidModelError(f"split GGUF holds {len(names)} tensors, and should hold {told}")


def _text_record(key: str, text: str) -> bytes:
    raw_key, raw = key.encode(), text.encode()
    kind = _CODE.pack(ValueType.STRING)
    return _LENGTH.pack(len(raw_key)) + raw_key + kind + _LENGTH.pack(len(raw)) + raw


def _tensor_record(tensor: TensorInfo, place: int) -> bytes:
    name = tensor.name.encode()
    shape = b"".join(map(_LENGTH.pack, tensor.shape))
    head = _LENGTH.pack(len(name)) + name + _CODE.pack(len(tensor.shape))
    return head + shape + _PLACE.pack(tensor.type, place)


def _read(copy: _Copy) -> Iterator[bytes]:
    left = copy.size_bytes
    with copy.path.open("rb") as stream:
        stream.seek(copy.offset)
        while left:
            chunk = stream.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise InvalidModelError(f"{copy.path} became shorter while it was read")
            left -= len(chunk)
            yield chunk
