"""A real server on loopback, and a client that shows the bytes of an answer."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import uvicorn
from litestar.types import ASGIApp


class Answer(NamedTuple):
    """An HTTP answer, its headers in order and with lower-case names."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)


class Peer(NamedTuple):
    """The address of a server that is being tested."""

    port: int

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send one request; a `Host` among the headers replaces the usual one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            given = {name.lower() for name in headers or {}}
            connection.putrequest(method, path, skip_host="host" in given)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            pairs = [(name.lower(), value) for name, value in answer.getheaders()]
            return Answer(answer.status, pairs, answer.read())


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[ASGIApp], Peer]]:
    """Start servers that run until the tests of a file end."""
    with contextlib.ExitStack() as running:
        yield lambda app: running.enter_context(_server(app))


@contextlib.contextmanager
def _server(app: ASGIApp) -> Iterator[Peer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # clients may come from here on
        config = uvicorn.Config(
            app, ws="none", lifespan="off", server_header=False, log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield Peer(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()
