"""Offers of another protocol, taken out of a request's head before the parser sees it.

Java's and Dart's clients offer HTTP/2 (`Upgrade: h2c`) with every request. httptools would take the
body of such a request for the other protocol; as a header of another name the offer does no harm.
"""

from typing import Final

_NAME: Final = b"upgrade:"
_RENAMED: Final = b"x-upgrade"


class HeadFilter:
    """Renames the header `Upgrade` in the head of one request, wherever its bytes are cut.

    What could still become that name is held back until the next piece tells: seven bytes at most.
    """

    def __init__(self) -> None:
        self._held = b""
        self._at_line_start = True

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take a piece of a connection that is in a head.

        Returns:
            What the parser is to read now, up to the first empty line; and what is behind that,
            which is the body if the parser says so.
        """
        data, self._held = self._held + data, b""
        out = bytearray()
        ended = False
        while data and not ended:
            line, newline, data = data.partition(b"\n")
            if self._at_line_start and not newline and _may_grow(line):
                self._held = line
                break
            ended = bool(newline) and self._at_line_start and line in (b"", b"\r")
            out += (_renamed(line) if self._at_line_start else line) + newline
            self._at_line_start = bool(newline)
        return bytes(out), data


def _may_grow(line: bytes) -> bool:
    """Whether more bytes could make this the header, or the empty line at the end."""
    return line == b"\r" or (len(line) < len(_NAME) and _NAME.startswith(line.lower()))


def _renamed(line: bytes) -> bytes:
    return _RENAMED + line[len(_NAME) - 1 :] if line[: len(_NAME)].lower() == _NAME else line
