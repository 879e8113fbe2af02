import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
from litestar import Litestar, Response, get

from corral_api.answers import json_response
from corral_api.middleware.hosts import is_loopback
from corral_api.routing import finish


@get("/api/status")
async def status() -> Response[bytes]:
    return json_response({})


def app(bound_host: str) -> Any:
    litestar = Litestar([status], openapi_config=None, logging_config=None)
    return finish(litestar, bound_host=bound_host)


@pytest.fixture(scope="module")
def peer(serve: Callable[[Any], Any]) -> Any:
    return serve(app("127.0.0.1"))


@pytest.fixture(scope="module")
def exposed_peer(serve: Callable[[Any], Any]) -> Any:
    return serve(app("0.0.0.0"))


ADDRESSES = [
    "127.0.0.1",
    "127.9.9.9:11434",
    "[::1]:11434",
    "[::1]",
    "::1",
    "[::ffff:127.0.0.1]:1",
    "0.0.0.0:1",
    "[::]:1",
    "10.1.2.3",
    "172.16.0.1:80",
    "172.31.255.255",
    "192.168.1.1:80",
    "[fd00::1]:80",
]
NAMES = [
    "localhost",
    "LOCALHOST:1",
    "a.localhost",
    "printer.local",
    "host.docker.internal:11434",
    "",
    socket.gethostname().upper(),
    f"{socket.gethostname()}:80",
]
FOREIGN = [
    "evil.example",
    "evil.example:11434",
    "localhost.evil.example",
    "local",
    "notlocalhost",
    "8.8.8.8",
    "172.32.0.1",
    "192.0.2.1:80",
    "169.254.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "[2001:db8::1]:80",
    "127.0.0.1.evil.example",
    "0x7f000001",
    "a:b:c",
    "caf\u00e9.example",
]


@pytest.mark.parametrize("host", ADDRESSES + NAMES)
def test_a_near_host_passes(peer: Any, host: str) -> None:
    assert peer.ask("GET", "/api/status", {"host": host}).status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_gets_an_empty_403(peer: Any, host: str, method: str) -> None:
    for path in ("/api/status", "/nowhere"):
        answer = peer.ask(method, path, {"host": host})
        assert (answer.status, answer.body) == (403, b"")
        assert {name for name, _ in answer.headers} == {"content-length", "date"}


@pytest.mark.parametrize("host", NAMES)
def test_options_under_a_near_name_is_answered_at_once(peer: Any, host: str) -> None:
    for path in ("/api/status", "/nowhere"):
        answer = peer.ask("OPTIONS", path, {"host": host})
        assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize(("path", "expected"), [("/api/status", 405), ("/nowhere", 404)])
def test_options_under_an_address_is_a_method_like_others(
    peer: Any, path: str, expected: int
) -> None:
    assert peer.ask("OPTIONS", path, {"host": "127.0.0.1:11434"}).status == expected


def test_a_server_for_others_too_asks_for_no_host(exposed_peer: Any) -> None:
    assert exposed_peer.ask("GET", "/api/status", {"host": "evil.example"}).status == 200
    assert exposed_peer.ask("OPTIONS", "/api/status", {"host": "localhost"}).status == 405


def test_an_address_of_an_interface_passes(peer: Any) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; only asks which interface would
        except OSError:
            pytest.skip("this machine has no route to anywhere")
        address = probe.getsockname()[0]
    assert peer.ask("GET", "/api/status", {"host": f"{address}:11434"}).status == 200


@pytest.mark.parametrize(
    ("bound", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("example.com", False),
    ],
)
def test_loopback_is_told_from_the_address_that_is_listened_on(
    bound: str,
    loopback: bool,  # noqa: FBT001
) -> None:
    assert is_loopback(bound) is loopback
