import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from litestar import Litestar, Request, Response, delete, get, head, post
from litestar.params import FromPath
from litestar.response import Stream

from corral_api.answers import NDJSON, empty_response, json_response
from corral_api.errors import EXCEPTION_HANDLERS, ErrorContext, RefusalError, remember
from corral_api.routing import ALSO_HEAD, finish
from corral_api.wire.encode import encode_line
from corral_api.wire.receive import receive
from corral_api.wire.requests import ShowRequest
from corral_api.wire.responses import ProgressResponse, VersionResponse
from corral_kernel.errors import ModelNotFoundError

DIGEST = "sha256:" + "0" * 64


@get("/", opt=ALSO_HEAD)
async def root() -> Response[str]:
    return Response("Ollama is running", media_type="text/plain")


@get("/api/version", opt=ALSO_HEAD)
async def version() -> Response[bytes]:
    return json_response(VersionResponse(version="0.6.4"))


@post("/api/show")
async def show(request: Request[Any, Any, Any]) -> Response[bytes]:
    body = await receive(request, ShowRequest)
    remember(request, ErrorContext("show", body.target + ":latest"))
    raise ModelNotFoundError(body.target)


@delete("/api/delete", status_code=200)
async def remove() -> Response[bytes]:
    return empty_response()


@post("/api/pull")
async def pull() -> Stream:
    async def lines() -> AsyncIterator[bytes]:
        for status in ("pulling <manifest>", "success"):
            yield encode_line(ProgressResponse(status=status))

    return Stream(lines(), media_type=NDJSON, status_code=200)


@post("/api/blobs/{digest:str}")
async def upload(digest: FromPath[str]) -> Response[bytes]:
    return json_response({"digest": digest}, 201)


@head("/api/blobs/{digest:str}")
async def probe(digest: FromPath[str]) -> None:
    if digest != DIGEST:
        raise RefusalError(400, "invalid digest format")


@get("/api/broken")
async def broken() -> Response[bytes]:
    raise RuntimeError("the secret inside")


@get("/api/status", opt=ALSO_HEAD)
async def refused() -> Response[bytes]:
    raise RefusalError(403, 'no "cloud" & more')


@pytest.fixture(scope="module")
def app() -> Any:
    handlers = [root, version, show, remove, pull, upload, probe, broken, refused]
    litestar = Litestar(
        handlers,
        openapi_config=None,
        exception_handlers=EXCEPTION_HANDLERS,
        logging_config=None,
        request_max_body_size=1000,
    )
    return finish(litestar, bound_host="127.0.0.1")


@pytest.fixture(scope="module")
def peer(app: Any, serve: Callable[[Any], Any]) -> Any:
    return serve(app)


def test_a_json_answer_has_exactly_the_contracts_headers(peer: Any) -> None:
    answer = peer.ask("GET", "/api/version")
    assert answer.body == b'{"version":"0.6.4"}'
    assert answer.get("content-type") == "application/json; charset=utf-8"
    assert answer.get("content-length") == "19"
    assert answer.get("server") is None
    assert {name for name, _ in answer.headers} == {"content-type", "content-length", "date"}


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/status"])
def test_head_gives_the_headers_of_get_and_no_body(peer: Any, path: str) -> None:
    full, bare = peer.ask("GET", path), peer.ask("HEAD", path)
    assert bare.body == b""
    assert bare.status == full.status
    assert dict(bare.headers) | {"date": ""} == dict(full.headers) | {"date": ""}


def test_an_error_of_a_head_handler_has_a_status_and_no_body(peer: Any) -> None:
    assert peer.ask("HEAD", f"/api/blobs/{DIGEST}").status == 200
    answer = peer.ask("HEAD", "/api/blobs/x")
    assert (answer.status, answer.body) == (400, b"")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/api", "/api/", "/api/blobs/", "/api/blobs/a/b", "//api/version", "/schema"],
)
def test_an_unknown_path_is_a_plain_404(peer: Any, method: str, path: str) -> None:
    answer = peer.ask(method, path)
    assert (answer.status, answer.body) == (404, b"404 page not found")
    assert answer.get("content-type") == "text/plain"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/", "HEAD, GET"),
        ("DELETE", "/api/version", "HEAD, GET"),
        ("GET", "/api/show", "POST"),
        ("HEAD", "/api/show", "POST"),
        ("POST", "/api/delete", "DELETE"),
        ("GET", f"/api/blobs/{DIGEST}", "HEAD, POST"),
        ("PROPFIND", "/api/version", "HEAD, GET"),
    ],
)
def test_a_wrong_method_is_a_405_that_lists_the_right_ones(
    peer: Any, method: str, path: str, allow: str
) -> None:
    answer = peer.ask(method, path)
    body = b"" if method == "HEAD" else b"405 method not allowed"
    assert (answer.status, answer.body, answer.get("allow")) == (405, body, allow)
    assert answer.get("content-type") == "text/plain"


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api/version/", 301, "/api/version"),
        ("GET", "/api/version/?a=b%20c", 301, "/api/version?a=b%20c"),
        ("HEAD", "/api/version/", 307, "/api/version"),
        ("POST", "/api/show/", 307, "/api/show"),
        ("DELETE", "/api/delete/", 307, "/api/delete"),
        ("POST", "/api/blobs/a%22b/", 307, "/api/blobs/a%22b"),
    ],
)
def test_a_slash_too_many_is_redirected(
    peer: Any, method: str, path: str, status: int, location: str
) -> None:
    answer = peer.ask(method, path)
    assert (answer.status, answer.get("location")) == (status, location)
    html = f'<a href="{location}">Moved Permanently</a>.\n\n' if method == "GET" else ""
    assert answer.body.decode() == html


def test_a_slash_too_many_with_a_wrong_method_is_unknown(peer: Any) -> None:
    assert peer.ask("GET", "/api/show/").status == 404


def test_an_empty_answer_has_a_length_and_no_content_type(peer: Any) -> None:
    answer = peer.ask("DELETE", "/api/delete")
    assert (answer.status, answer.body) == (200, b"")
    assert (answer.get("content-length"), answer.get("content-type")) == ("0", None)


def test_a_stream_is_chunked_lines(peer: Any) -> None:
    answer = peer.ask("POST", "/api/pull")
    assert answer.get("content-type") == "application/x-ndjson"
    assert answer.get("transfer-encoding") == "chunked"
    assert answer.body == b'{"status":"pulling \\u003cmanifest\\u003e"}\n{"status":"success"}\n'


def test_an_error_is_told_in_the_words_of_its_route(peer: Any) -> None:
    answer = peer.ask("POST", "/api/show", {"content-type": "x/y"}, b'{"MODEL":"m"} more')
    assert (answer.status, answer.body) == (404, b'{"error":"model \'m:latest\' not found"}')
    assert answer.get("content-type") == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", b"missing request body"),
        (b"{", b"unexpected EOF"),
        (
            b'{"verbose":1}',
            b"json: cannot unmarshal number into Go struct field ShowRequest.verbose of type bool",
        ),
    ],
)
def test_a_body_that_cannot_be_decoded_is_a_400(peer: Any, body: bytes, text: bytes) -> None:
    answer = peer.ask("POST", "/api/show", body=body)
    assert (answer.status, answer.body) == (400, b'{"error":"%b"}' % text)


def test_a_body_over_the_bound_is_a_413(peer: Any) -> None:
    answer = peer.ask("POST", "/api/show", body=b" " * 1001)
    assert answer.status == 413
    assert answer.body.startswith(b'{"error":"')


def test_a_refusal_is_escaped_as_all_json_is(peer: Any) -> None:
    answer = peer.ask("GET", "/api/status")
    assert (answer.status, answer.body) == (403, b'{"error":"no \\"cloud\\" \\u0026 more"}')


def test_a_bug_is_an_empty_500_and_a_log_entry(peer: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = peer.ask("GET", "/api/broken")
    assert (answer.status, answer.body) == (500, b"")
    assert answer.get("content-type") is None
    assert "the secret inside" in caplog.text
