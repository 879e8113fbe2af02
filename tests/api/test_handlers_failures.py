"""Answers that fail: with a status before their first line, later with a last line that says why.

A model whose workers keep dying rests for a while: each test has a model of its own.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx
import pytest

TINY = Path(__file__).parent.parent / "models" / "tiny-chat-f32.gguf"
STOPPED = "model runner has unexpectedly stopped"
Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def client(start_server: Callable[..., Any]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=start_server().url, timeout=60) as client:
        yield client


@pytest.fixture
def echo(client: httpx.Client, request: pytest.FixtureRequest) -> Ask:
    """Ask a model of weights of its own: `echo(stream=False, echo_die_at=6)`."""
    data = TINY.read_bytes() + request.node.name.encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body = {"model": "echo", "files": {"t.gguf": digest}, "parameters": {"backend": "echo"}}
    client.post("/api/create", json={**body, "stream": False}).raise_for_status()

    def ask(*, stream: bool = True, **options: Any) -> httpx.Response:
        body = {"model": "echo", "prompt": "repeat this", "stream": stream, "options": options}
        return client.post("/api/generate", json=body)

    return ask


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"echo_fail_at": 1}, "stopped"),
        ({"echo_load_fails": True}, "echo was told to fail"),
        ({"echo_error_prompt": "repeat"}, "echo was told to fail at 'repeat'"),
        ({"echo_die_at": 1}, STOPPED),
    ],
    ids=["step", "load", "prompt", "death"],
)
def test_what_fails_before_the_first_piece_has_a_status(
    echo: Ask, options: dict[str, Any], words: str, stream: object
) -> None:
    answer = echo(stream=bool(stream), **options)
    assert answer.status_code == 500
    assert answer.headers["content-type"].startswith("application/json")
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]


def test_a_worker_that_dies_in_the_middle_ends_the_stream_with_a_line(echo: Ask) -> None:
    answer = echo(echo_die_at=6)
    assert answer.status_code == 200
    *chunks, last = map(json.loads, answer.text.splitlines())
    assert chunks
    assert not any(chunk["done"] for chunk in chunks)
    assert list(last) == ["error"]
    assert STOPPED in last["error"]


def test_an_answer_in_one_piece_that_fails_late_has_a_status(echo: Ask) -> None:
    answer = echo(stream=False, echo_die_at=6)
    assert answer.status_code == 500
    assert STOPPED in answer.json()["error"]


def test_the_next_request_works_after_a_death(echo: Ask) -> None:
    echo(echo_die_at=6)
    assert echo(stream=False).json()["response"]


def test_going_round_in_circles_ends_without_a_last_object(client: httpx.Client, echo: Ask) -> None:
    assert echo(stream=False).json()["response"]
    body = {"model": "echo", "prompt": "a" * 200, "raw": True}
    lines = client.post("/api/generate", json=body).text.splitlines()
    assert 10 < len(lines) <= 32
    assert not any(json.loads(line)["done"] for line in lines)
    whole = client.post("/api/generate", json={**body, "stream": False}).json()
    assert whole["done"] is False
    assert set(whole["response"]) == {"a"}
    assert "done_reason" not in whole


def test_metadata_that_is_no_number_can_be_shown(client: httpx.Client, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "llama")
    writer.add_float32("llama.rope.freq_base", float("nan"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = (tmp_path / "odd.gguf").read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body = {"model": "odd", "files": {"odd.gguf": digest}, "stream": False}
    client.post("/api/create", json=body).raise_for_status()
    shown = client.post("/api/show", json={"model": "odd"}).json()
    assert shown["model_info"]["llama.rope.freq_base"] is None
    answer = client.post("/api/generate", json={"model": "odd", "prompt": "x"})
    assert answer.status_code == 500
    assert answer.json()["error"]
