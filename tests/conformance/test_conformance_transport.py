"""Rules of all routes: methods, paths, bodies, content types, CORS and Host."""

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

JSON = "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (200, "text/plain; charset=utf-8", "Ollama is running")),
        ("HEAD", "/", (200, "text/plain; charset=utf-8", "")),
        ("HEAD", "/api/version", (200, JSON, "")),
        ("HEAD", "/api/tags", (200, JSON, "")),
        ("GET", "/nowhere", (404, "text/plain", "404 page not found")),
        ("GET", "/api", (404, "text/plain", "404 page not found")),
        ("POST", "/API/generate", (404, "text/plain", "404 page not found")),
        ("GET", "/api/generate", (405, "text/plain", "405 method not allowed")),
        ("PUT", "/", (405, "text/plain", "405 method not allowed")),
    ],
)
def test_paths_and_methods(
    api: Any, method: str, path: str, expected: tuple[int, str, str]
) -> None:
    answer = api.send(method, path)
    assert (answer.status_code, answer.headers["content-type"], answer.text) == expected
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/", "HEAD, GET"),
        ("DELETE", "/api/version", "HEAD, GET"),
        ("POST", "/api/tags", "HEAD, GET"),
        ("POST", "/api/ps", "GET"),
        ("GET", "/api/show", "POST"),
        ("POST", "/api/delete", "DELETE"),
        ("GET", "/api/blobs/sha256:0", "HEAD, POST"),
        ("OPTIONS", "/api/chat", "POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    api: Any, method: str, path: str, allow: str
) -> None:
    answer = api.send(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)


def test_head_has_the_length_of_get(api: Any) -> None:
    for path in ("/", "/api/version", "/api/tags"):
        got, head = api.send("GET", path), api.send("HEAD", path)
        assert head.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api/version/", 301, "/api/version"),
        ("POST", "/api/chat/", 307, "/api/chat"),
        ("DELETE", "/api/delete/", 307, "/api/delete"),
    ],
)
def test_a_slash_too_many_is_redirected(
    api: Any, method: str, path: str, status: int, location: str
) -> None:
    answer = api.send(method, path)
    assert (answer.status_code, answer.headers["location"]) == (status, location)


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/api/generate", "", "missing request body"),
        ("/api/generate", " \n\t", "missing request body"),
        ("/api/generate", '{"model":', "unexpected EOF"),
        ("/api/generate", "nope", "invalid character 'o' in literal null (expecting 'u')"),
        (
            "/api/generate",
            '{"model":"a",}',
            "invalid character '}' looking for beginning of object key string",
        ),
        (
            "/api/chat",
            "[]",
            "json: cannot unmarshal array into Go value of type api.ChatRequest",
        ),
        (
            "/api/generate",
            '{"model":1}',
            (
                "json: cannot unmarshal number into Go struct field "
                "GenerateRequest.model of type string"
            ),
        ),
        (
            "/api/generate",
            '{"stream":"yes"}',
            (
                "json: cannot unmarshal string into Go struct field "
                "GenerateRequest.stream of type bool"
            ),
        ),
        (
            "/api/chat",
            '{"options":[]}',
            (
                "json: cannot unmarshal array into Go struct field "
                "ChatRequest.options of type map[string]interface {}"
            ),
        ),
        (
            "/api/generate",
            '{"context":[1.5]}',
            (
                "json: cannot unmarshal number 1.5 into Go struct field "
                "GenerateRequest.context of type int"
            ),
        ),
        (
            "/api/chat",
            '{"messages":{}}',
            (
                "json: cannot unmarshal object into Go struct field "
                "ChatRequest.messages of type []api.Message"
            ),
        ),
        (
            "/api/chat",
            '{"messages":[{"role":"user","content":[{"type":"text"}]}]}',
            (
                "json: cannot unmarshal array into Go struct field "
                "ChatRequest.messages.content of type string"
            ),
        ),
        ("/api/generate", '{"images":["data:"]}', "illegal base64 data at input byte 4"),
        (
            "/api/generate",
            '{"think":"x"}',
            'invalid think value: "x" (must be "high", "medium", "low", "max", true, or false)',
        ),
        ("/api/chat", '{"keep_alive":"10"}', 'time: missing unit in duration "10"'),
        ("/api/chat", '{"keep_alive":true}', "Unsupported type: 'bool'"),
        ("/api/embed", '{"model":"a","input":[1]}', "invalid input type"),
        ("/api/show", "1", "json: cannot unmarshal number into Go value of type api.ShowRequest"),
    ],
)
def test_a_bad_body_gets_the_decoders_words(api: Any, path: str, body: str, error: str) -> None:
    answer = api.post(path, body)
    api.check_error(answer, 400, error)
    assert answer.headers["content-type"] == JSON


@pytest.mark.parametrize(
    "body",
    [
        '{"MODEL":"no-such"}',
        '{"model":"other","model":"no-such"}',
        '{"model":"no-such"} and more',
        '{"model":"no-such","unknown":[{}],"prompt":null,"options":null}',
        '\n {"Model" : "no-such"}',
    ],
)
@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", "x"]
)
def test_a_body_is_read_whatever_its_type_and_spelling(
    api: Any, body: str, content_type: str
) -> None:
    answer = api.post("/api/generate", body, **{"content-type": content_type})
    api.check_error(answer, 404, "model 'no-such' not found")


def test_a_null_body_is_an_empty_request(api: Any) -> None:
    api.check_error(api.post("/api/generate", "null"), 404, "model '' not found")


def test_output_is_escaped_as_gos_encoder_does(api: Any) -> None:
    answer = api.post("/api/copy", {"source": "<a>&\u2028é", "destination": "b"})
    assert answer.status_code == 400
    text = answer.content.decode()
    assert text.startswith('{"error":"source \\"\\u003ca\\u003e\\u0026\\')
    assert "é" in text


def raw_request(base_url: str, head: str, body: bytes = b"") -> http.client.HTTPResponse:
    where = urlsplit(base_url)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answer.read()
        return answer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:11434", 200),
        ("127.0.0.1", 200),
        ("[::1]:11434", 200),
        ("192.168.1.7", 200),
        ("box.local", 200),
        ("box.internal:80", 200),
        ("a.LOCALHOST", 200),
        ("evil.example", 403),
        ("evil.example:11434", 403),
        ("8.8.8.8", 403),
    ],
)
def test_only_near_hosts_are_served_on_loopback(base_url: str, host: str, status: int) -> None:
    answer = raw_request(base_url, f"GET / HTTP/1.1\nHost: {host}\nConnection: close\n")
    assert answer.status == status
    assert status == 200 or answer.headers["content-length"] == "0"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("https://127.0.0.1", 200),
        ("app://obsidian.md", 200),
        ("vscode-webview://1", 200),
        ("http://evil.example", 403),
        ("chrome-extension://abc", 403),
        ("null", 403),
    ],
)
def test_foreign_origins_are_refused(api: Any, origin: str, status: int) -> None:
    answer = api.send("GET", "/api/version", origin=origin)
    assert answer.status_code == status
    if status == 200:
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "Origin"
    else:
        assert answer.content == b""


def test_a_preflight_is_answered(api: Any) -> None:
    answer = api.send("OPTIONS", "/api/chat", origin="http://localhost:5173")
    assert answer.status_code == 204
    allowed = answer.headers["access-control-allow-methods"]
    assert allowed == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert answer.headers["access-control-max-age"] == "43200"
    assert "Authorization" in answer.headers["access-control-allow-headers"]


def test_without_an_origin_there_are_no_cors_headers(api: Any) -> None:
    headers = api.send("GET", "/").headers
    assert not [name for name in headers if name.startswith("access-control") or name == "vary"]


def test_a_body_is_read_although_an_upgrade_to_http2_is_offered(base_url: str) -> None:
    # Java's client offers it with every request in plain text.
    body = json.dumps({"model": "no-such"}).encode()
    answer = raw_request(
        base_url,
        "POST /api/generate HTTP/1.1\nHost: localhost\nConnection: Upgrade, HTTP2-Settings\n"
        f"Upgrade: h2c\nHTTP2-Settings: AAEAAEAAAAIAAAAB\nContent-Length: {len(body)}\n",
        body,
    )
    assert answer.status == 404


def test_a_chunked_body_is_read(api: Any) -> None:
    pieces = [b'{"mod', b'el":"no-', b'such"}']
    answer = api.client.post("/api/generate", content=iter(pieces))
    api.check_error(answer, 404, "model 'no-such' not found")


def test_connections_are_kept(base_url: str) -> None:
    with httpx.Client(base_url=base_url) as client:
        streams = {id(client.get("/api/version").extensions["network_stream"]) for _ in range(3)}
    assert len(streams) == 1
