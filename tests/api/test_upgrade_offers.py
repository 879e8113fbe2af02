"""Clients that offer another protocol are heard all the same, however TCP cuts what they send."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from corral_api.http_server import BoundedHttp
from corral_api.upgrades import HeadFilter

BODY = b'{"model": "m"}\r\nupgrade: the body is left alone\r\n\r\n'
HEAD = (
    b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\nUp: down\r\n"
)
COUNTED = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
BARE = HEAD.replace(b"POST", b"GET") + b"\r\n"


class Recorder:
    """An application that keeps what it is asked, and answers nothing but 200."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[bytes, bytes], bytes]] = []
        self.heard = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body += message["body"]
            more = message["more_body"]
        self.asked.append((dict(scope["headers"]), body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self.heard.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.asked) < count:
                self.heard.clear()
                await self.heard.wait()


@asynccontextmanager
async def connection(app: Any) -> AsyncIterator[BoundedHttp]:
    """The server's end of a connection, whose pieces the test hands in."""
    config = uvicorn.Config(app, http=BoundedHttp, ws="none", lifespan="off", log_config=None)
    config.load()
    ours, theirs = socket.socketpair()
    with theirs:
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: BoundedHttp(config, ServerState(), {}), ours
        )
        yield protocol
        transport.close()


def pieces_at(data: bytes, *cuts: int) -> list[bytes]:
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize(
    ("request_bytes", "body"),
    [(COUNTED, BODY), (CHUNKED, BODY), (BARE, b"")],
    ids=["counted body", "chunked body", "no body"],
)
async def test_a_request_that_offers_http2_is_whole_wherever_it_is_cut(
    request_bytes: bytes, body: bytes
) -> None:
    length = len(request_bytes)
    cuts = [pieces_at(request_bytes, cut) for cut in range(1, length)]
    cuts.append(pieces_at(request_bytes, *range(1, length)))  # byte by byte
    for pieces in cuts:
        recorder = Recorder()
        async with connection(recorder) as server:
            for piece in pieces:
                server.data_received(piece)
            await recorder.until(1)
        ((headers, heard),) = recorder.asked
        assert heard == body
        assert headers[b"x-upgrade"] == b"h2c"
        assert b"upgrade" not in headers
        assert headers[b"up"] == b"down"


async def test_each_request_of_a_connection_may_offer_it() -> None:
    both = COUNTED + BARE + COUNTED
    for pieces in ([both], pieces_at(both, len(COUNTED) + 130), [COUNTED, BARE, COUNTED]):
        recorder = Recorder()
        async with connection(recorder) as server:
            for piece in pieces:
                server.data_received(piece)
            await recorder.until(3)
        assert [body for _, body in recorder.asked] == [BODY, b"", BODY]
        assert all(headers[b"x-upgrade"] == b"h2c" for headers, _ in recorder.asked)


def test_what_is_held_back_is_short_and_comes_with_the_next_piece() -> None:
    head = HeadFilter()
    assert head.feed(b"GET / HTTP/1.1\r\nUpGrAd") == (b"GET / HTTP/1.1\r\n", b"")
    assert head.feed(b"ing: x\r\n\r") == (b"UpGrAding: x\r\n", b"")
    assert head.feed(b"\nbody") == (b"\r\n", b"body")
