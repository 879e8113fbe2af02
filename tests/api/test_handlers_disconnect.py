"""A client that goes away takes its work with it, wherever that work stands.

The servers have one slot. The backend `echo` repeats a prompt one slow step after another, so that
whoever comes next is answered in time only if the one before was cancelled.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

TINY = Path(__file__).parent.parent / "models" / "tiny-chat-f32.gguf"
LONG = "a prompt that takes long to repeat " * 100


@pytest.fixture(scope="module")
def one_slot(start_server: Callable[..., Any]) -> Any:
    return start_server(CORRAL_NUM_PARALLEL="1", CORRAL_MAX_QUEUE="1")


@pytest.fixture(scope="module")
def client(one_slot: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=one_slot.url, timeout=60) as client:
        data = TINY.read_bytes()
        digest = "sha256:1d450a308c44fbcbfde224a6891a953648220ed736befaf17883e1218539343e"
        client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        body = {"model": "echo", "files": {"t.gguf": digest}, "parameters": {"backend": "echo"}}
        client.post("/api/create", json={**body, "stream": False}).raise_for_status()
        yield client


def request(prompt: str, step_ms: int = 50, **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "prompt": prompt, "options": {"echo_step_ms": step_ms}, **fields}


@contextlib.contextmanager
def posted(url: str, body: dict[str, Any]) -> Iterator[socket.socket]:
    """Send a request and wait for nothing; leaving closes the connection."""
    where = urlsplit(url)
    data = json.dumps(body).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        connection.sendall(head.encode() + data)
        yield connection


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again, for there is nothing to be told by."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def is_loaded(client: httpx.Client) -> bool:
    return bool(client.get("/api/ps").json()["models"])


def unload(client: httpx.Client) -> None:
    client.post("/api/generate", json={"model": "echo", "keep_alive": 0}).raise_for_status()
    until(lambda: not is_loaded(client))


def test_a_stream_whose_reader_left(one_slot: Any, client: httpx.Client) -> None:
    with posted(one_slot.url, request(LONG)) as connection:
        assert b"200 OK" in connection.recv(4096)
    assert client.post("/api/generate", json=request("next", stream=False)).status_code == 200


def test_an_answer_in_one_piece_whose_reader_left(one_slot: Any, client: httpx.Client) -> None:
    unload(client)
    with posted(one_slot.url, request(LONG, stream=False)):
        until(lambda: is_loaded(client))
    assert client.post("/api/generate", json=request("next", stream=False)).status_code == 200


def test_a_prompt_that_is_still_being_read(one_slot: Any, client: httpx.Client) -> None:
    unload(client)
    options = {"echo_step_ms": 1000, "num_batch": 16}
    # Two hundred steps of prefill, a second each.
    with posted(one_slot.url, {"model": "echo", "prompt": "x" * 3200, "options": options}):
        until(lambda: is_loaded(client))
    body = {"model": "echo", "prompt": "next", "stream": False}
    body["options"] = {**options, "num_predict": 1}
    assert client.post("/api/generate", json=body).status_code == 200


def is_full(client: httpx.Client) -> bool:
    """Whether the one place in the queue is taken: then a request is refused at once."""
    try:
        answer = client.post("/api/generate", json=request("third"), timeout=0.5)
    except httpx.ReadTimeout:
        return False  # it waited, and has given up
    assert "server busy" in answer.json()["error"]
    return answer.status_code == 503


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_request_that_waits_for_a_slot(
    one_slot: Any, client: httpx.Client, stream: object
) -> None:
    with posted(one_slot.url, request(LONG)) as holder, contextlib.ExitStack() as stack:
        holder.recv(4096)

        def second_waits() -> bool:
            # Requests on two connections may come in either order: the third may win.
            stack.close()
            stack.enter_context(posted(one_slot.url, request("second", stream=stream)))
            return is_full(client)

        until(second_waits)
        stack.close()
        until(lambda: not is_full(client))
    assert client.post("/api/generate", json=request("last", stream=False)).status_code == 200
