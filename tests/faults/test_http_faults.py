"""Faults as a client meets them: a real server, real workers, real kills."""

import contextlib
import json
import random
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

TINY_CHAT = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
WAIT_S = 60


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    return client.post(path, json={"stream": False, **body})


def make(client: httpx.Client, name: str, data: bytes, **parameters: Any) -> httpx.Response:
    import hashlib

    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body = {"model": name, "files": {"model.gguf": digest}, "parameters": parameters}
    return post(client, "/api/create", body)


def make_echo(client: httpx.Client, name: str, **options: Any) -> None:
    """A model that repeats its prompt; weights of its own, so that it has its own worker."""
    data = TINY_CHAT.read_bytes() + name.encode()  # bytes after the tensors mean nothing
    make(client, name, data, backend="echo", **options).raise_for_status()


def say(client: httpx.Client, model: str, prompt: str = "hello", **more: Any) -> httpx.Response:
    return post(client, "/api/generate", {"model": model, "prompt": prompt, "raw": True, **more})


@contextlib.contextmanager
def streaming(client: httpx.Client, model: str, prompt: str) -> Iterator[Iterator[str]]:
    body = {"model": model, "prompt": prompt, "raw": True}
    with client.stream("POST", "/api/generate", json=body) as answer:
        yield answer.iter_lines()


@contextlib.contextmanager
def talking(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=WAIT_S) as client:
        yield client


@pytest.fixture(scope="module")
def served(start_server: Callable[..., Any]) -> Any:
    return start_server(
        CORRAL_STEP_TIMEOUT="1s", CORRAL_STALL_TIMEOUT="1s", CORRAL_NUM_PARALLEL="1"
    )


@pytest.fixture
def client(served: Any) -> Iterator[httpx.Client]:
    with talking(served) as client:
        yield client


def test_a_killed_worker_costs_its_own_client_one_line_and_nobody_else(
    client: httpx.Client,
) -> None:
    make_echo(client, "victim", echo_step_ms=20, echo_die_at=50)  # by SIGKILL
    make_echo(client, "bystander", echo_step_ms=20)
    text = "xy" * 100  # equal pieces in a row would end the answer
    with (
        streaming(client, "victim", text) as of_victim,
        streaming(client, "bystander", text) as of_bystander,
    ):
        assert json.loads(next(of_victim))["response"] == "x"
        assert json.loads(next(of_bystander))["response"] == "x"
        ends = [json.loads(line) for line in of_victim][-1], [*of_bystander]
    assert "model runner has unexpectedly stopped" in ends[0]["error"]
    pieces = [json.loads(line) for line in ends[1]]
    assert "x" + "".join(piece["response"] for piece in pieces) == text
    assert pieces[-1]["done_reason"] == "stop"
    assert say(client, "victim", "again").json()["response"] == "again"


def test_a_worker_that_hangs_is_killed_and_its_client_told(client: httpx.Client) -> None:
    make_echo(client, "hanging", echo_hang_at=3)
    answer = say(client, "hanging")
    assert answer.status_code == 500
    assert "silent" in answer.json()["error"]
    assert client.get("/api/version").status_code == 200


def test_a_worker_that_floods_its_output_still_answers(client: httpx.Client) -> None:
    make_echo(client, "flooding", echo_flood_bytes=30_000_000)
    assert say(client, "flooding", "still here").json()["response"] == "still here"


def test_a_reader_that_stalls_loses_its_slot_and_nobody_else_notices(
    served: Any, client: httpx.Client
) -> None:
    make_echo(client, "stalled")
    make_echo(client, "neighbour")
    host, port = served.url.removeprefix("http://").split(":")
    # Log-probabilities make lines long: some megabytes, more than all buffers on the way hold.
    body = json.dumps(
        {
            "model": "stalled",
            "prompt": "abcdefg " * 1000,
            "raw": True,
            "logprobs": True,
            "top_logprobs": 20,
        }
    ).encode()
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((host, int(port)))
        head = f"POST /api/generate HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        reader.sendall(head.encode() + body)
        assert reader.recv(16).startswith(b"HTTP/1.1 200")
        assert say(client, "neighbour").json()["response"] == "hello"
        # One slot: this is served only when the stalled job has ended.
        assert say(client, "stalled", "my turn").json()["response"] == "my turn"


def _oversized_count() -> bytes:
    data = bytearray(TINY_CHAT.read_bytes())
    struct.pack_into("<Q", data, 8, 1 << 60)  # tensors
    return bytes(data)


def _random_bytes() -> bytes:
    return b"GGUF" + struct.pack("<I", 3) + random.Random(7).randbytes(100_000)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(TINY_CHAT.read_bytes()[:40], id="cut in its head"),
        pytest.param(TINY_CHAT.read_bytes()[:200_000], id="cut in its tensors"),
        pytest.param(_oversized_count(), id="more tensors than atoms"),
        pytest.param(_random_bytes(), id="random bytes"),
        pytest.param(b"not a model at all", id="no GGUF"),
    ],
)
def test_a_damaged_model_file_is_refused_and_the_server_lives(
    client: httpx.Client, data: bytes
) -> None:
    answer = make(client, "damaged", data)
    if answer.status_code == 200:
        answer = say(client, "damaged")
    assert answer.status_code >= 400
    assert answer.json()["error"]
    assert "Traceback" not in answer.text
    assert client.get("/api/tags").status_code == 200


def test_a_killed_server_leaves_no_process_and_a_store_that_serves(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    store = str(tmp_path / "models")
    first = start_server(CORRAL_MODELS=store)
    with talking(first) as client:
        make_echo(client, "lasting", echo_step_ms=20)
        body = {"model": "lasting", "prompt": "y" * 200, "raw": True}
        with client.stream("POST", "/api/generate", json=body) as answer:
            next(answer.iter_lines())
            family = psutil.Process(first.process.pid).children(recursive=True)
            assert family
            first.process.kill()
    gone, alive = psutil.wait_procs(family, timeout=WAIT_S)
    assert not alive
    assert len(gone) == len(family)
    with talking(start_server(CORRAL_MODELS=store)) as client:
        assert "lasting:latest" in [m["name"] for m in client.get("/api/tags").json()["models"]]
        assert say(client, "lasting", "back").json()["response"] == "back"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_told_and_nothing_is_left_behind(
    start_server: Callable[..., Any], small_disk: Path
) -> None:
    with talking(start_server(CORRAL_MODELS=str(small_disk / "models"))) as client:
        digest = "sha256:" + "0" * 64
        answer = client.post(f"/api/blobs/{digest}", content=b"z" * 5_000_000)
        assert answer.status_code == 500
        assert "space" in answer.json()["error"]
        left = [p for p in (small_disk / "models").rglob("*") if p.is_file()]
        assert left == []
        make_echo(client, "fits")
        assert say(client, "fits", "ok").json()["response"] == "ok"
