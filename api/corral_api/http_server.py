"""uvicorn, set up as a server of ours: bounds on a request's head, and an end that we order."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from corral_api.upgrades import HeadFilter

MAX_HEAD_BYTES: Final = 1 << 20
KEEP_ALIVE_S: Final = 300
"""How long an idle connection is kept: longer than the pools of common clients keep theirs."""
GRACE_S: Final = 5
"""How long answers that are under way may take to end once the server stops."""

UNTIL_TOLD: Final = float("inf")


class BoundedHttp(HttpToolsProtocol):
    """Reads HTTP as uvicorn does, but takes no upgrades, and no request head without an end."""

    _in_head = True
    _body_left: float = 0  # bytes; of a chunked body nobody knows before its end
    _pending = 0  # bytes since the parser last came to something

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class has it
        """Begin a connection."""
        super().connection_made(transport)
        self._head = HeadFilter()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        self._pending += len(data)
        if self._pending > MAX_HEAD_BYTES + len(data):
            self.send_400_response("Request header fields too large.")
            return
        while data and not self.transport.is_closing():
            if self._in_head or not self._body_left:
                piece, data = self._head.feed(data)
            else:
                size = int(min(self._body_left, len(data)))
                piece, data = data[:size], data[size:]
                self._body_left -= size
            if piece:
                super().data_received(piece)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._pending = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Go on from the head to the body."""
        self._pending = 0
        self._in_head = False
        self._body_left = _body_length(self.headers)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        self._in_head = True
        self._head = HeadFilter()
        super().on_message_complete()

    def on_chunk_header(self) -> None:
        """Begin a chunk of the body."""
        self._pending = 0

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._pending = 0
        super().on_body(body)


def _body_length(headers: list[tuple[bytes, bytes]]) -> float:
    """Count the bytes from the end of a head to the next; the parser has checked the headers."""
    found = dict(headers)
    if b"transfer-encoding" in found:
        return UNTIL_TOLD
    return int(found.get(b"content-length", b"0"))


class Server(uvicorn.Server):
    """The HTTP server.

    Args:
        app: What it serves. Its lifespan is the caller's affair.
        end_work: Ends all that is under way, so that no answer keeps the server from stopping.
        backlog: Connections that may wait to be accepted.
    """

    def __init__(self, app: ASGIApp, end_work: Callable[[], Awaitable[None]], backlog: int) -> None:
        config = uvicorn.Config(
            app,
            http=BoundedHttp,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=backlog,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)
        self._end_work = end_work

    @property
    def open_requests(self) -> int:
        """Requests that are not answered to their end."""
        return len(self.server_state.tasks)

    def stop(self) -> None:
        """End soon; called again: at once."""
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again, and the exit status would tell."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, end all work, then close the ones that are left."""
        for server in self.servers:
            server.close()
        await self._end_work()
        await super().shutdown(sockets)
