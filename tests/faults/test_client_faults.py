"""Clients that go away: their work ends before the next step, wherever it is.

The server has one slot for each model. So what tells that a job has ended is that the next request
is answered: the job itself would have taken minutes.
"""

import hashlib
import json
import signal
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any]) -> Any:
    return serve(NUM_PARALLEL="1", MAX_QUEUE="2")


def leave(connection: socket.socket, *, rudely: bool = False) -> None:
    if rudely:  # a reset instead of an orderly end
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def is_running(served: Any, name: str) -> bool:
    return f"{name}:latest" in served.loaded()


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("rudely", [False, True], ids=["closed", "reset"])
def test_a_client_that_leaves_in_prefill_frees_its_slot(
    served: Any, tools: Any, *, stream: bool, rudely: bool
) -> None:
    served.create("prefill", echo_step_ms=100, num_batch=2)
    served.works("prefill")
    connection = served.connect("prefill", tools.varied(4000), stream=stream)
    tools.until(lambda: served.is_busy("prefill"))
    leave(connection, rudely=rudely)
    served.works("prefill")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_in_decode_frees_its_slot(
    served: Any, tools: Any, *, stream: bool
) -> None:
    served.create("decode", echo_step_ms=50)
    served.works("decode")
    connection = served.connect("decode", tools.varied(4000), stream=stream)
    if stream:
        assert connection.recv(12) == b"HTTP/1.1 200"
    else:
        tools.until(lambda: served.is_busy("decode"))
    leave(connection)
    served.works("decode")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_the_queue_frees_its_place(
    served: Any, tools: Any, *, stream: bool
) -> None:
    served.create("queue", echo_step_ms=50)
    running = served.connect("queue", tools.varied(4000))
    assert running.recv(12) == b"HTTP/1.1 200"
    queued = [served.queue("queue", "abc", stream=stream) for _ in range(2)]
    tools.until(lambda: served.is_full("queue"))
    leave(queued.pop())
    tools.until(lambda: not served.is_full("queue"))
    leave(running)
    assert queued[0].recv(12) == b"HTTP/1.1 200"
    leave(queued[0])
    served.works("queue")


def test_clients_that_come_and_go_leave_every_slot_free(served: Any, tools: Any) -> None:
    served.create("crowd", echo_step_ms=2)
    for n in range(20):
        connection = served.connect("crowd", tools.varied(500), stream=bool(n % 2))
        if n % 3 == 0:
            connection.recv(1)
        leave(connection, rudely=n % 5 == 0)
    served.works("crowd")


def test_an_upload_that_is_cut_leaves_nothing(served: Any, tools: Any) -> None:
    data = bytes(1 << 20)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    url = httpx.URL(served.server.url)
    blobs = served.server.home / "models" / "blobs"
    before = {path.name for path in blobs.iterdir()}

    def partial() -> set[str]:
        return {path.name for path in blobs.iterdir()} - before

    head = f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}"
    for rudely in (False, True):
        connection = socket.create_connection((url.host, url.port))
        connection.sendall(f"{head}\r\n\r\n".encode() + data[:300_000])
        tools.until(partial)
        leave(connection, rudely=rudely)
        tools.until(lambda: not partial())
        assert served.client.head(f"/api/blobs/{digest}").status_code == 404
    assert served.client.post(f"/api/blobs/{digest}", content=data).status_code == 201


def test_a_server_that_is_told_to_end_tells_its_clients_and_leaves_no_process(
    serve: Callable[..., Any], tools: Any
) -> None:
    served = serve()
    served.create("m", echo_step_ms=5)
    served.create("stuck", echo_load_ms=60_000)
    with served.stream("m", tools.varied(4000)) as stream:
        next(stream)
        loading = served.connect("stuck", "x")
        tools.until(lambda: len(served.workers()) >= 2)  # and a third where a spare one is up
        workers = served.workers()
        served.server.process.send_signal(signal.SIGTERM)
        assert list(stream)[-1] == {"error": "the server is shutting down"}
    assert served.server.process.wait(60) == 0
    for pid in workers:
        tools.wait_gone(pid)
    answer = loading.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 503")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "the server is shutting down"}
    loading.close()


@pytest.mark.parametrize("state", ["spare", "loading", "hanging"])
def test_a_killed_server_leaves_no_worker_in_any_state(
    serve: Callable[..., Any], tools: Any, state: str
) -> None:
    served = serve()
    connection = None
    if state != "spare":
        faults = {"echo_load_ms": 60_000} if state == "loading" else {"echo_hang_at": 1}
        served.create("m", echo_ignore_signals=True, **faults)
        connection = served.connect("m", "x")
        if state == "hanging":
            tools.until(lambda: is_running(served, "m"))
    tools.until(lambda: len(served.workers()) >= (1 if state == "spare" else 2))
    workers = served.workers()
    served.server.process.kill()
    for pid in workers:
        tools.wait_gone(pid)
    if connection is not None:
        connection.close()
