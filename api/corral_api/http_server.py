"""uvicorn, set up as a server of ours: bounds on a request's head, and an end that we order."""

import contextlib
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 1 << 20
KEEP_ALIVE_S: Final = 300
"""How long an idle connection is kept: longer than the pools of common clients keep theirs."""
GRACE_S: Final = 5
"""How long answers that are under way may take to end once the server stops."""


# The header by which Java's client offers HTTP/2 with every request. httptools takes the body of
# such a request for the other protocol; as a header of another name the offer does no harm.
_UPGRADE: Final = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)
_IGNORED: Final = b"\r\nx-upgrade"
_END_OF_HEAD: Final = b"\r\n\r\n"


class BoundedHttp(HttpToolsProtocol):
    """Reads HTTP as uvicorn does, but takes no upgrades, and no request head without an end."""

    _in_head = True
    _pending = 0  # bytes since the parser last came to something

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        self._pending += len(data)
        if self._pending > MAX_HEAD_BYTES + len(data):
            self.send_400_response("Request header fields too large.")
            return
        if self._in_head:
            head, end, rest = data.partition(_END_OF_HEAD)
            data = _UPGRADE.sub(_IGNORED, head) + end + rest
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._pending = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Go on from the head to the body."""
        self._pending = 0
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        self._in_head = True
        super().on_message_complete()

    def on_chunk_header(self) -> None:
        """Begin a chunk of the body."""
        self._pending = 0

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._pending = 0
        super().on_body(body)


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
