"""The server's process: its start, its end, its size, and the head of a request."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

SERVE = (
    "import os, sys; from corral_api.server import serve; "
    "from corral_kernel.environment import Settings; "
    "sys.exit(serve(Settings.from_environ(os.environ)))"
)


def serve(home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "CORRAL_HOME": str(home), "CORRAL_HOST": "127.0.0.1:0", **settings}
    return subprocess.run(
        [sys.executable, "-c", SERVE],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_taken_port_is_told_in_the_words_that_scripts_know(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        done = serve(tmp_path, CORRAL_HOST=host)
    assert done.returncode == 1
    assert done.stderr == f"Error: listen tcp {host}: bind: address already in use\n"


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("192.0.2.1:11999", "listen tcp 192.0.2.1:11999: bind: cannot assign requested address"),
        (
            "no.such.host.invalid:11999",
            "listen tcp no.such.host.invalid:11999: lookup: no such host",
        ),
    ],
)
def test_an_address_that_is_not_here(tmp_path: Path, host: str, error: str) -> None:
    done = serve(tmp_path, CORRAL_HOST=host)
    assert (done.returncode, done.stderr) == (1, f"Error: {error}\n")


def test_an_allowed_origin_that_is_none_stops_the_start(tmp_path: Path) -> None:
    done = serve(tmp_path, CORRAL_ORIGINS="evil.example")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: allowed origin 'evil.example'")


def test_a_port_that_is_none_stops_the_start(tmp_path: Path) -> None:
    done = serve(tmp_path, CORRAL_HOST="127.0.0.1:99999")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: CORRAL_HOST (or OLLAMA_HOST): '99999' is no port: ")


def test_a_store_that_is_no_folder_stops_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = serve(tmp_path, OLLAMA_MODELS=str(tmp_path / "file"))
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {tmp_path}/file is no folder: set CORRAL_MODELS (OLLAMA_MODELS) to one\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_ends_the_server_with_status_0_and_its_workers(
    start_server: Callable[..., Any], number: signal.Signals
) -> None:
    server = start_server()
    httpx.get(server.url).raise_for_status()
    children = psutil.Process(server.process.pid).children(recursive=True)
    server.process.send_signal(number)
    assert server.process.wait(timeout=60) == 0
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert "Traceback" not in "".join(server.log)


def test_a_stream_under_way_is_told_that_the_server_stops(
    start_server: Callable[..., Any],
) -> None:
    server = start_server()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        tiny = Path(__file__).parent.parent / "models" / "tiny-chat-f32.gguf"
        digest = "sha256:1d450a308c44fbcbfde224a6891a953648220ed736befaf17883e1218539343e"
        client.post(f"/api/blobs/{digest}", content=tiny.read_bytes()).raise_for_status()
        body = {"model": "echo", "files": {"t.gguf": digest}, "parameters": {"backend": "echo"}}
        client.post("/api/create", json={**body, "stream": False}).raise_for_status()
        slow = {"model": "echo", "prompt": "x y " * 500, "options": {"echo_step_ms": 50}}
        with client.stream("POST", "/api/generate", json=slow) as answer:
            lines = answer.iter_lines()
            assert "response" in json.loads(next(lines))
            server.process.send_signal(signal.SIGTERM)
            *_, last = lines
    assert json.loads(last) == {"error": "the server is shutting down"}
    assert server.process.wait(timeout=60) == 0


def test_a_fresh_server_answers_soon_and_is_small(
    start_server: Callable[..., Any],
) -> None:
    server = start_server()
    httpx.get(server.url + "/api/version").raise_for_status()
    process = psutil.Process(server.process.pid)
    # The budget is 1.0 s on an idle machine; here only the processor's time can be told of.
    assert process.cpu_times().user < 3.0
    assert process.memory_info().rss < 120e6


def test_a_fresh_server_has_not_imported_what_only_vectors_need() -> None:
    code = (
        "import sys; from corral_kernel.environment import Settings; "
        "from corral_kernel.service import Corral; from corral_api.app import create_app; "
        "corral = Corral(Settings.from_environ({})); create_app(corral); "
        "corral.plugins.backends, corral.plugins.constraints, corral.plugins.renderers; "
        "print([m for m in ('numpy', 'llama_cpp', 'llguidance', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_request_head_without_an_end_is_cut_off(server: Any) -> None:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Endless: ")
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall(b"x" * (64 << 20))
    httpx.get(server.url).raise_for_status()


def test_a_body_over_the_bound_is_refused_before_it_is_read(server: Any) -> None:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
