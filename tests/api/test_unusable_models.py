"""Models that cannot be used: their files are gone, nothing reads them, or they make images."""

import hashlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

TINY = Path(__file__).parent.parent / "models" / "tiny-chat-f32.gguf"
MESSAGES = [{"role": "user", "content": "x"}]
Create = Callable[..., str]


@pytest.fixture
def client(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def create(client: httpx.Client) -> Iterator[Create]:
    """Make models of bytes: `create("name", data)` gives the digest."""
    made: list[str] = []

    def create(name: str, data: bytes, **fields: Any) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        body = {"model": name, "files": {"m.gguf": digest}, "stream": False, **fields}
        client.post("/api/create", json=body).raise_for_status()
        made.append(name)
        return digest

    yield create
    for name in made:
        client.request("DELETE", "/api/delete", json={"model": name})


def of_architecture(name: str) -> bytes:
    """A GGUF file that says no more than its architecture."""
    key = b"general.architecture"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key
    return head + struct.pack("<IQ", 8, len(name)) + name.encode()


BEREFT: list[tuple[str, dict[str, Any], int, str]] = [
    ("generate", {"prompt": "x"}, 400, '"bereft" does not support generate'),
    ("generate", {}, 400, '"bereft" does not support generate'),
    ("chat", {"messages": MESSAGES}, 400, '"bereft" does not support chat'),
    ("embed", {"input": "x"}, 404, 'model "bereft" not found, try pulling it first'),
    ("embeddings", {"prompt": "x"}, 404, 'model "bereft" not found, try pulling it first'),
    ("show", {}, 404, "model 'bereft:latest' not found"),
]


def test_a_model_whose_weights_are_gone_is_told_as_each_route_does(
    server: Any, client: httpx.Client, create: Create
) -> None:
    digest = create("bereft", TINY.read_bytes() + b"bereft")
    (server.home / "models" / "blobs" / digest.replace(":", "-")).unlink()
    for path, fields, status, error in BEREFT:
        answer = client.post(f"/api/{path}", json={"model": "bereft", **fields})
        assert (answer.status_code, answer.json()) == (status, {"error": error})
    listed = client.get("/api/tags").json()["models"]
    assert "bereft:latest" in [model["name"] for model in listed]


def test_an_architecture_that_the_library_does_not_know_may_be_too_new(
    client: httpx.Client, create: Create
) -> None:
    create("novel", of_architecture("frobnicator"))
    for path, fields in (("generate", {"prompt": "x"}), ("chat", {"messages": MESSAGES})):
        answer = client.post(f"/api/{path}", json={"model": "novel", **fields})
        assert answer.status_code == 500
        error = answer.json()["error"]
        assert "unknown model architecture: 'frobnicator'" in error
        assert error.endswith(
            ": this model may be incompatible with your version of Ollama. If you previously "
            "pulled this model, try updating it by running `ollama pull novel:latest`"
        )


def test_a_model_that_makes_images_generates_no_text(client: httpx.Client, create: Create) -> None:
    create("painter", TINY.read_bytes(), info={"capabilities": ["image"]})
    refused = {"error": "image generation models are not currently supported"}
    for fields in ({}, {"prompt": "x"}, {"prompt": "x", "raw": True, "system": "s"}):
        answer = client.post("/api/generate", json={"model": "painter", **fields})
        assert (answer.status_code, answer.json()) == (400, refused)
    unload = client.post("/api/generate", json={"model": "painter", "keep_alive": 0})
    assert unload.json()["done_reason"] == "unload"
