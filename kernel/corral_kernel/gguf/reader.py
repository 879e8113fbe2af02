"""Reads heads of GGUF files, versions 2 and 3, little-endian; every count is bounded before use."""

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from corral_kernel.errors import InvalidModelError, NotGgufError
from corral_kernel.gguf.checks import check_metadata, check_tensors
from corral_kernel.gguf.header import GgufHeader, Scalar, TensorInfo, Value
from corral_kernel.gguf.types import STRUCT_CODES, ValueType
from corral_kernel.gguf.window import Window

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

# Far above every real file; low enough that a hostile head costs neither memory nor seconds.
_MAX_HEAD_BYTES = 1 << 29
_MAX_KEYS = 1 << 14
_MAX_TENSORS = 1 << 16
_MAX_NAME_BYTES = 1 << 10
_MAX_NAMES_BYTES = 1 << 23  # of all keys and tensors together
_MAX_DIMENSIONS = 4
_MAX_TEXTS = 1 << 22  # items of all text arrays of a file together
_MAX_INLINE_TEXT_BYTES = 1 << 20
_MAX_INLINE_BYTES = 1 << 23  # all that is kept of a file together
_MAX_INLINE_ITEMS = 1024
_MAX_READ_BYTES = 1 << 28  # what `read_value` gives at most
_MIN_KEY_BYTES = 8 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 4 + 4 + 8

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_COUNTS = struct.Struct("<QQ")
_ARRAY = struct.Struct("<IQ")
_PLACE = struct.Struct("<IQ")
_SCALARS = {kind: struct.Struct(f"<{code}") for kind, code in STRUCT_CODES.items()}


def read_header(path: Path) -> GgufHeader:
    """Read the head of a GGUF file and check it against the size of the file.

    Takes milliseconds and at most a few megabytes, whatever the file says. Makes sure that each
    tensor lies inside the file, and that what native code divides by or indexes with is sane.

    Raises:
        NotGgufError: If it is no GGUF file.
        InvalidModelError: If the head is damaged, hostile, big-endian or of an unknown version.
        OSError: If the file cannot be read.
    """
    with _opened(path) as (window, size_bytes):
        return _HeaderReader(window, size_bytes).read()


def read_records(path: Path) -> tuple[GgufHeader, dict[str, bytes]]:
    """Read the head of a GGUF file, and each of its metadata records as it stands there.

    Returns:
        The head, and by key the bytes of a record: key, type and value.

    Raises:
        InvalidModelError: As for `read_header`.
        OSError: If the file cannot be read.
    """
    with _opened(path) as (window, size_bytes):
        reader = _HeaderReader(window, size_bytes)
        header = reader.read()
        records = {}
        for key, (start, end) in reader.spans.items():
            window.seek(start)
            records[key] = _take(window, end - start)
        return header, records


def read_value(path: Path, value: Value) -> Scalar | bytes | list[Scalar]:
    """Read the whole content of a metadata value, also where `read_header` skipped it.

    Args:
        path: The file that the value's header was read from.
        value: One of the header's `metadata`.

    Returns:
        A scalar, a list, or `bytes` for an array of uint8.

    Raises:
        InvalidModelError: If the file ends early or the value is unreasonably large.
        OSError: If the file cannot be read.
    """
    if value.type is not ValueType.ARRAY and value.content is not None:
        return value.content  # type: ignore[return-value]  # only arrays have tuples
    with _opened(path) as (window, _):
        window.seek(value.offset)
        if value.item_type is None:
            return _text(_take(window, value.count))
        if value.item_type is ValueType.STRING:
            return [_text(_take(window, window.unpack(_U64)[0])) for _ in range(value.count)]
        return _read_numbers(window, value.item_type, value.count)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Window, int]]:
    # Not blocking: a named pipe in a model's place would never open.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size_bytes = os.fstat(descriptor).st_size
        yield Window(descriptor, min(size_bytes, _MAX_HEAD_BYTES)), size_bytes
    finally:
        os.close(descriptor)


def _take(window: Window, size: int) -> bytes:
    if size > _MAX_READ_BYTES:
        raise InvalidModelError(f"a metadata value of {size} bytes is over {_MAX_READ_BYTES}")
    return window.take(size)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def _read_numbers(window: Window, kind: ValueType, count: int) -> bytes | list[Scalar]:
    raw = _take(window, count * _SCALARS[kind].size)
    if kind is ValueType.UINT8:
        return raw
    return list(struct.unpack(f"<{count}{STRUCT_CODES[kind]}", raw))


class _HeaderReader:
    """Reads one head from front to back."""

    def __init__(self, window: Window, size_bytes: int) -> None:
        self._window = window
        self._size_bytes = size_bytes
        self._names_left = _MAX_NAMES_BYTES
        self._texts_left = _MAX_TEXTS
        self._inline_left = _MAX_INLINE_BYTES
        self.spans: dict[str, tuple[int, int]] = {}  # where each metadata record lies

    def read(self) -> GgufHeader:
        version = self._read_version()
        tensor_count, key_count = self._window.unpack(_COUNTS)
        self._check_count("tensors", tensor_count, _MAX_TENSORS, _MIN_TENSOR_BYTES)
        self._check_count("metadata keys", key_count, _MAX_KEYS, _MIN_KEY_BYTES)
        metadata = self._read_metadata(key_count)
        alignment = check_metadata(metadata) or DEFAULT_ALIGNMENT
        tensors = tuple(self._read_tensor() for _ in range(tensor_count))
        data_offset = -(-self._window.position // alignment) * alignment
        check_tensors(tensors, alignment, self._size_bytes - data_offset)
        return GgufHeader(
            version=version,
            size_bytes=self._size_bytes,
            data_offset=data_offset,
            metadata=metadata,
            tensors=tensors,
        )

    def _read_version(self) -> int:
        if self._window.left < len(MAGIC) or self._window.take(len(MAGIC)) != MAGIC:
            raise NotGgufError("invalid file magic")
        version: int = self._window.unpack(_U32)[0]
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            if swapped in (1, *VERSIONS):
                raise InvalidModelError(
                    "this GGUF file is big-endian; only little-endian files can be run here: "
                    "fetch or convert the little-endian one"
                )
            raise InvalidModelError(
                f"this is GGUF version {version}; versions 2 and 3 can be read: "
                "convert the file with a current llama.cpp"
            )
        return version

    def _check_count(self, what: str, count: int, most: int, bytes_each: int) -> None:
        if count > most or count * bytes_each > self._window.left:
            raise InvalidModelError(
                f"the head claims {count} {what} in a file with {self._window.left} bytes left "
                f"(at most {most} are read): it is damaged; fetch it again"
            )

    def _read_name(self, what: str) -> str:
        size = self._window.unpack(_U64)[0]
        self._names_left -= size
        if not 0 < size <= _MAX_NAME_BYTES or self._names_left < 0:
            raise InvalidModelError(f"the head holds a {what} of {size} bytes: it is damaged")
        try:
            return self._window.take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidModelError(f"the head holds a {what} that is no UTF-8 text") from None

    def _read_metadata(self, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for _ in range(count):
            start = self._window.position
            key = self._read_name("metadata key")
            if key in metadata:
                raise InvalidModelError(f"metadata key {key!r} stands twice")
            metadata[key] = self._read_value(key)
            self.spans[key] = start, self._window.position
        return metadata

    def _read_value(self, key: str) -> Value:
        kind = self._read_type(key)
        if kind is ValueType.ARRAY:
            return self._read_array(key)
        if kind is ValueType.STRING:
            return self._read_text()
        if kind is ValueType.BOOL:
            return Value(kind, self._window.take(1) != b"\0")
        return Value(kind, self._window.unpack(_SCALARS[kind])[0])

    def _read_type(self, key: str) -> ValueType:
        code = self._window.unpack(_U32)[0]
        try:
            return ValueType(code)
        except ValueError:
            raise InvalidModelError(f"metadata key {key!r} has the unknown type {code}") from None

    def _read_text(self) -> Value:
        size = self._window.unpack(_U64)[0]
        offset = self._window.position
        if size <= min(_MAX_INLINE_TEXT_BYTES, self._inline_left):
            self._inline_left -= size
            return Value(ValueType.STRING, _text(self._window.take(size)))
        self._window.skip(size)
        return Value(ValueType.STRING, None, None, size, offset)

    def _read_array(self, key: str) -> Value:
        code, count = self._window.unpack(_ARRAY)
        offset = self._window.position
        try:
            kind = ValueType(code)
        except ValueError:
            kind = ValueType.ARRAY
        if kind is ValueType.ARRAY:
            raise InvalidModelError(
                f"metadata key {key!r} is an array of type {code}: only flat arrays are known"
            )
        if kind is ValueType.STRING:
            self._check_count(f"texts in {key!r}", count, self._texts_left, _U64.size)
            self._texts_left -= count
            self._window.skip_texts(count, _U64)
            return Value(ValueType.ARRAY, None, kind, count, offset)
        size = count * _SCALARS[kind].size
        content = None
        if count <= _MAX_INLINE_ITEMS and size <= self._inline_left and size <= self._window.left:
            self._inline_left -= size
            content = tuple(_read_numbers(self._window, kind, count))
        else:
            self._window.skip(size)
        return Value(ValueType.ARRAY, content, kind, count, offset)

    def _read_tensor(self) -> TensorInfo:
        name = self._read_name("tensor name")
        dimensions = self._window.unpack(_U32)[0]
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise InvalidModelError(
                f"tensor {name!r} has {dimensions} dimensions; 1 to {_MAX_DIMENSIONS} are known"
            )
        shape = tuple(self._window.unpack(_U64)[0] for _ in range(dimensions))
        kind, offset = self._window.unpack(_PLACE)
        return TensorInfo(name, shape, kind, offset)
