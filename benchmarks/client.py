"""One HTTP request on a connection of its own, with the moment at which each line came.

While an answer is being written the client takes bytes and looks at the clock, nothing else: it
runs on the same cores as the server that it measures. Everything is parsed afterwards.
"""

import asyncio
import json
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import httptools

PATIENCE_S = 300.0


class RequestFailedError(Exception):
    """A server answered with an error, or not at all.

    Attributes:
        status: HTTP's; 0 where the answer is no whole response, or 200 and the error within.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Reply:
    """The lines of a body, each with the second (of `perf_counter`) at which it was complete."""

    sent_at: float
    status: int = 0
    lines: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def ended_at(self) -> float:
        """When the last line was complete."""
        return self.lines[-1][0]


class _Collector(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pieces: list[tuple[float, bytes]] = []
        self.sent_at = 0.0
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.sent_at = perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append((perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # what it means for the answer shows in the bytes
        if not self.closed.done():
            self.closed.set_result(None)


class _Lines:
    """Callbacks of the parser: cuts a body into lines and notes when they came."""

    def __init__(self, reply: Reply) -> None:
        self.now = 0.0
        self.complete = False
        self._reply = reply
        self._rest = b""

    def on_body(self, body: bytes) -> None:
        *lines, self._rest = (self._rest + body).split(b"\n")
        self._reply.lines += [(self.now, line) for line in lines if line.strip()]

    def on_message_complete(self) -> None:
        self.complete = True
        if self._rest.strip():
            self._reply.lines.append((self.now, self._rest))


async def ask(port: int, path: str, body: dict[str, Any] | bytes | None) -> Reply:
    """Send one request to a server on this machine and take its whole answer.

    Args:
        port: Of the server on 127.0.0.1.
        path: With its slash.
        body: Posted as JSON, bytes as they are; None: a GET.

    Raises:
        RequestFailedError: If the status is not 200, or the answer is cut off.
        OSError: If nobody listens.
    """
    request = _request(path, body)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_S):
        _, collector = await loop.create_connection(lambda: _Collector(request), "127.0.0.1", port)
        await collector.closed
    reply = parse(collector.sent_at, collector.pieces)
    if reply.status != 200 or not reply.lines:  # noqa: PLR2004 - HTTP's own number
        text = b" ".join(line for _, line in reply.lines).decode(errors="replace")
        raise RequestFailedError(f"{path} answered {reply.status}: {text[:300]}", reply.status)
    return reply


def _request(path: str, body: dict[str, Any] | bytes | None) -> bytes:
    # A connection of its own: one peer now and then breaks those that are kept alive.
    head = f"{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    if body is None:
        return f"GET {head}\r\n".encode()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return f"POST {head}{more}".encode() + content


def parse(sent_at: float, pieces: list[tuple[float, bytes]]) -> Reply:
    """Read an HTTP response out of the bytes of a connection.

    Args:
        sent_at: When the request was sent.
        pieces: The moments and bytes of each read.

    Raises:
        RequestFailedError: If it is no HTTP, or was cut off.
    """
    reply = Reply(sent_at)
    lines = _Lines(reply)
    parser = httptools.HttpResponseParser(lines)
    try:
        for lines.now, data in pieces:
            parser.feed_data(data)
    except httptools.HttpParserError as error:
        raise RequestFailedError(f"an answer that is no HTTP: {error}") from None
    if not lines.complete:
        raise RequestFailedError("the connection was closed in the middle of the answer")
    reply.status = parser.get_status_code()
    return reply
