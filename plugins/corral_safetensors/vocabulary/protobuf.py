"""Just enough of protocol buffers to read SentencePiece's tokenizer.model."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from corral_kernel.errors import InvalidModelError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BYTES: Final = 10


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Args:
        number: Which.
        value: A number, or the bytes of a string, a message or a fixed number.
    """

    number: int
    value: int | bytes

    def integer(self) -> int:
        """Its number.

        Raises:
            InvalidModelError: If it has none.
        """
        if not isinstance(self.value, int):
            raise _damaged(f"field {self.number} is to be a number")
        return self.value

    def data(self) -> bytes:
        """Its bytes.

        Raises:
            InvalidModelError: If it has none.
        """
        if not isinstance(self.value, bytes):
            raise _damaged(f"field {self.number} is to be of bytes")
        return self.value

    def text(self) -> str:
        """Its text.

        Raises:
            InvalidModelError: If it has none.
        """
        try:
            return self.data().decode()
        except UnicodeDecodeError:
            raise _damaged(f"field {self.number} is no UTF-8") from None

    def float32(self) -> float:
        """Its fraction.

        Raises:
            InvalidModelError: If it has none.
        """
        data = self.data()
        if len(data) != struct.calcsize("<f"):
            raise _damaged(f"field {self.number} is to be a float")
        (value,) = struct.unpack("<f", data)
        return float(value)


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message, one after the other.

    Raises:
        InvalidModelError: If it is none.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield Field(number, value)
            continue
        if kind == _BYTES:
            length, position = _varint(message, position)
        elif kind in {_FIXED32, _FIXED64}:
            length = 4 if kind == _FIXED32 else 8
        else:
            raise _damaged(f"byte {position} begins no field")
        if length > len(message) - position:
            raise _damaged(f"a field at byte {position} runs over the end")
        yield Field(number, message[position : position + length])
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(message[position : position + _MOST_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value, position + count + 1
    raise _damaged(f"a number at byte {position} does not end")


def _damaged(what: str) -> InvalidModelError:
    return InvalidModelError(f"tokenizer.model is damaged, or no SentencePiece model: {what}")
