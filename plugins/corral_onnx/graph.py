"""What a graph declares, read from its file without a library: ONNX files are Protobuf messages.

Only names are read; weights are passed over. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_IR_VERSION, _GRAPH = 1, 7  # of a model
_NODE, _INITIALIZER, _INPUT = 1, 5, 11  # of a graph
_OP_TYPE, _TENSOR_NAME, _INPUT_NAME = 4, 8, 1
_OWN_INITIALIZERS = 4  # before this version of the format each initializer was an input too
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class Graph:
    """Names in a graph.

    Attributes:
        inputs: What a run must give.
        overridable: Initializers that a run may replace; LoRA adapters do.
        operators: Types of the operators that occur.
    """

    inputs: frozenset[str] = frozenset()
    overridable: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()


def read_graph(path: Path) -> Graph:
    """Read a `.onnx` file.

    Raises:
        ValueError: If it is none.
    """
    version, inputs, initializers, operators = 0, set(), set(), set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, start, stop in _fields(data, 0, len(data)):
            if number == _IR_VERSION:
                version = start
            elif number == _GRAPH:
                for kind, begin, end in _fields(data, start, stop):
                    if kind == _NODE:
                        operators.add(_text(data, begin, end, _OP_TYPE))
                    elif kind == _INITIALIZER:
                        initializers.add(_text(data, begin, end, _TENSOR_NAME))
                    elif kind == _INPUT:
                        inputs.add(_text(data, begin, end, _INPUT_NAME))
    overridable = inputs & initializers if version >= _OWN_INITIALIZERS else frozenset()
    return Graph(frozenset(inputs - initializers), frozenset(overridable), frozenset(operators))


def _text(data: mmap.mmap, start: int, stop: int, wanted: int) -> str:
    for number, begin, end in _fields(data, start, stop):
        if number == wanted:
            return data[begin:end].decode(errors="replace")
    return ""


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Give each field's number and where its bytes lie; for a number the number, and 0."""
    while start < stop:
        key, start = _varint(data, start, stop)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, start = _varint(data, start, stop)
            yield number, value, 0
            continue
        if kind == _BYTES:
            length, start = _varint(data, start, stop)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("it is no Protobuf message")
        if length > stop - start:
            raise ValueError("it ends too early")
        yield number, start, start + length
        start += length


def _varint(data: mmap.mmap, start: int, stop: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if start + place >= stop:
            break
        byte = data[start + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number has no high bit
            return value, start + place + 1
    raise ValueError("it holds a number that does not end")
