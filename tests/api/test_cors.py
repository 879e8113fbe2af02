from collections.abc import Callable
from typing import Any

import pytest
from litestar import Litestar, Response, get

from corral_api.answers import json_response
from corral_api.middleware.cors import Cors, InvalidOriginError, Origins
from corral_api.routing import ALSO_HEAD, finish
from corral_api.wire.responses import VersionResponse

ALLOW = "access-control-allow-origin"


@get("/api/version", opt=ALSO_HEAD)
async def version() -> Response[bytes]:
    return json_response(VersionResponse(version="0.6.4"))


def app(*origins: str) -> Any:
    litestar = Litestar([version], openapi_config=None, logging_config=None)
    return finish(litestar, origins=origins, bound_host="127.0.0.1")


@pytest.fixture(scope="module")
def peer(serve: Callable[[Any], Any]) -> Any:
    return serve(app("https://Good.example", "http://*.sub.example", "chrome-extension://abc"))


@pytest.fixture(scope="module")
def open_peer(serve: Callable[[Any], Any]) -> Any:
    return serve(app("*"))


def test_without_an_origin_there_are_no_cors_headers(peer: Any) -> None:
    answer = peer.ask("GET", "/api/version")
    assert answer.status == 200
    assert not [name for name, _ in answer.headers if name.startswith(("access-", "vary"))]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_servers_own_pages_need_no_cors(peer: Any, scheme: str) -> None:
    headers = {"host": "corral.internal:80", "origin": f"{scheme}://corral.internal:80"}
    answer = peer.ask("GET", "/api/version", headers)
    assert (answer.status, answer.get(ALLOW)) == (200, None)


ALLOWED = [
    "http://localhost",
    "https://localhost",
    "http://localhost:3000",
    "https://127.0.0.1:1",
    "http://0.0.0.0:8080",
    "app://anything",
    "file://",
    "tauri://localhost",
    "vscode-webview://x",
    "vscode-file://vscode-app",
    "https://good.example",
    "http://a.sub.example",
    "chrome-extension://abc",
]


@pytest.mark.parametrize("origin", ALLOWED)
def test_answers_to_allowed_origins_are_marked(peer: Any, origin: str) -> None:
    answer = peer.ask("GET", "/api/version", {"origin": origin})
    assert (answer.status, answer.body) == (200, b'{"version":"0.6.4"}')
    assert answer.all(ALLOW) == [origin]
    assert answer.all("vary") == ["Origin"]


REFUSED = [
    "http://evil.example",
    "https://localhost.evil.example",
    "http://localhost.evil.example:80",
    "https://good.example:8443",
    "https://Good.example",  # browsers send lower case
    "https://a.sub.example",
    "chrome-extension://other",
    "moz-extension://abc",
    "null",
]


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
@pytest.mark.parametrize("origin", REFUSED)
def test_other_origins_get_an_empty_403(peer: Any, origin: str, method: str) -> None:
    answer = peer.ask(method, "/api/version", {"origin": origin})
    assert (answer.status, answer.body) == (403, b"")
    assert {name for name, _ in answer.headers} == {"content-length", "date"}


@pytest.mark.parametrize("path", ["/api/version", "/nowhere"])
def test_a_preflight_is_answered_whatever_the_path(peer: Any, path: str) -> None:
    headers = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    answer = peer.ask("OPTIONS", path, headers)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.all(ALLOW) == ["http://localhost:3000"]
    assert answer.all("access-control-max-age") == ["43200"]
    assert answer.all("access-control-allow-credentials") == []
    assert answer.all("vary") == [
        "Origin",
        "Access-Control-Request-Method",
        "Access-Control-Request-Headers",
    ]
    assert answer.all("access-control-allow-methods") == ["GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"]
    allowed = str(answer.get("access-control-allow-headers")).split(",")
    assert allowed[:6] == [
        "Authorization",
        "Content-Type",
        "User-Agent",
        "Accept",
        "X-Requested-With",
        "Openai-Beta",
    ]
    assert len(allowed) == 18
    assert all(name.startswith("X-Stainless-") for name in allowed[6:])
    assert not {"content-length", "transfer-encoding"} & {name for name, _ in answer.headers}


def test_errors_are_marked_too_so_that_pages_can_read_them(peer: Any) -> None:
    answer = peer.ask("GET", "/nowhere", {"origin": "http://localhost"})
    assert (answer.status, answer.get(ALLOW)) == (404, "http://localhost")


def test_cors_comes_before_the_check_of_the_host(peer: Any) -> None:
    headers = {"host": "evil.example", "origin": "http://localhost"}
    assert peer.ask("OPTIONS", "/api/version", headers).status == 204
    answer = peer.ask("GET", "/api/version", headers)
    assert (answer.status, answer.get(ALLOW)) == (403, "http://localhost")


def test_a_star_allows_every_origin_and_needs_no_vary(open_peer: Any) -> None:
    headers = {"origin": "http://anything.example"}
    for method, status in (("GET", 200), ("OPTIONS", 204)):
        answer = open_peer.ask(method, "/api/version", headers)
        assert (answer.status, answer.all(ALLOW), answer.all("vary")) == (status, ["*"], [])


@pytest.mark.parametrize("entry", ["example.com", "", "ftp://x", "http://*.*.example", "**"])
def test_an_entry_that_can_match_nothing_stops_the_start(entry: str) -> None:
    with pytest.raises(InvalidOriginError, match="allowed origin"):
        app("http://fine.example", entry)


@pytest.mark.parametrize(
    ("entry", "origin", "allowed"),
    [
        (" http://Trimmed.example ", "http://trimmed.example", True),
        ("*.example", "https://a.example", True),
        ("*.example", "https://a.example.net", False),
        ("http://a.*", "http://a.b:1", True),
        ("http://a.*", "https://a.b", False),
        ("moz-extension://*", "moz-extension://1-2", True),
        ("http://A.*", "http://a.b", False),  # patterns are compared as they are written
    ],
)
def test_entries_match_as_written(entry: str, origin: str, allowed: bool) -> None:  # noqa: FBT001
    assert Origins([entry]).allow(origin) is allowed


async def test_other_connections_pass_untouched() -> None:
    seen = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await Cors(inner, Origins())({"type": "websocket"}, None, None)  # type: ignore[arg-type]  # no more is looked at
    assert seen == ["websocket"]
