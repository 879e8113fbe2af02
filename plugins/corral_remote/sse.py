"""Server-sent events: bytes in pieces of any size to the data of each event."""

import re
from typing import Final

from corral_kernel.errors import RemoteServerError

LINE_BYTES: Final = 4 << 20
"""Of one event. A token with the likeliest twenty takes 3 kB; a whole answer at once, more."""
ANSWER_BYTES: Final = 256 << 20

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BOM: Final = b"\xef\xbb\xbf"


class EventReader:
    """One stream of events; lines end with CR, LF or both, comments and other fields are nothing.

    Args:
        line_bytes: Of one line and of one event's data.
        answer_bytes: Of the whole stream.
    """

    def __init__(self, line_bytes: int = LINE_BYTES, answer_bytes: int = ANSWER_BYTES) -> None:
        self._line_bytes = line_bytes
        self._answer_bytes = answer_bytes
        self._total = 0
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._first = True
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take what came, and give the data of the events that it completes.

        Raises:
            RemoteServerError: If a line, an event or the stream is over its bound.
        """
        self._total += len(data)
        if self._total > self._answer_bytes:
            raise RemoteServerError(f"the answer has over {self._answer_bytes} bytes")
        if self._after_cr and data.startswith(b"\n"):
            self._after_cr, data = False, data[1:]
        if data:
            self._after_cr = data.endswith(b"\r")
        *ends, rest = _LINE_END.split(data)
        events = [event for end in ends if (event := self._end_line(end)) is not None]
        self._extend(rest)
        return events

    def finish(self) -> list[bytes]:
        """Give what the end of the stream left: an event that no empty line followed."""
        events = [self._end_line(b""), self._end_line(b"")]
        return [event for event in events if event is not None]

    def _extend(self, piece: bytes) -> None:
        if len(self._line) + len(piece) > self._line_bytes:
            raise RemoteServerError(f"a line of the answer has over {self._line_bytes} bytes")
        self._line += piece

    def _end_line(self, piece: bytes) -> bytes | None:
        """Take the last piece of a line; give an event's data if the line ends it."""
        self._extend(piece)
        line, self._line = bytes(self._line), bytearray()
        if self._first:
            self._first, line = False, line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._add(value.removeprefix(b" "))
        return None

    def _add(self, value: bytes) -> None:
        self._data_bytes += len(value) + 1
        if self._data_bytes > self._line_bytes:
            raise RemoteServerError(f"an event of the answer has over {self._line_bytes} bytes")
        self._data.append(value)

    def _dispatch(self) -> bytes | None:
        if not self._data:
            return None
        data, self._data, self._data_bytes = b"\n".join(self._data), [], 0
        return data
