"""Damaged models of every backend at one server: an answer each time, and the server lives."""

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MODELS = Path(__file__).parents[1] / "models"
SOURCES = {
    "gguf": "tiny-chat-f32.gguf",
    "onnx": "tiny-chat-onnx",
    "ggml": "gpt2byte-f16.ggml.bin",
}
OPTIONS = {"num_predict": 2, "num_thread": 1, "num_ctx": 64}
COPIES = 10

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def client(start_server: Callable[..., Any]) -> Iterator[httpx.Client]:
    server = start_server(CORRAL_LOAD_TIMEOUT="20s")
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
    assert server.process.poll() is None


def contents(source: str) -> dict[str, bytes]:
    path = MODELS / source
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, a piece cut out, or the end lost."""
    changed = bytearray(data)
    kind = chance.randrange(3)
    if kind == 0:
        near = chance.choice([64, 2048, len(data)])  # where the heads are, and anywhere
        for _ in range(chance.choice([1, 4, 40])):
            changed[chance.randrange(min(near, len(data)))] = chance.randrange(256)
    elif kind == 1:
        start = chance.randrange(len(data))
        del changed[start : start + chance.choice([1, 7, 1000])]
    else:
        del changed[chance.randrange(len(data)) :]
    return bytes(changed)


def answer(client: httpx.Client, files: dict[str, bytes], **parameters: Any) -> httpx.Response:
    """Make a model and ask it; the answer is that of what fails first."""
    digests = {}
    for name, data in files.items():
        digests[name] = f"sha256:{hashlib.sha256(data).hexdigest()}"
        client.post(f"/api/blobs/{digests[name]}", content=data).raise_for_status()
    body = {"model": "damaged", "files": digests, "parameters": parameters, "stream": False}
    created = client.post("/api/create", json=body)
    if created.status_code != 200:
        return created
    prompt = {"model": "damaged", "prompt": "Hello", "raw": True, "stream": False}
    return client.post("/api/generate", json={**prompt, "options": OPTIONS, "keep_alive": 0})


@pytest.mark.parametrize("kind", SOURCES)
def test_a_damaged_model_is_an_answer_and_a_sound_one_works_after_it(
    client: httpx.Client, kind: str
) -> None:
    sound = contents(SOURCES[kind])
    parameters = {"model_type": "gpt2"} if kind == "ggml" else {}
    chance = random.Random(f"{kind} 1")
    refused = 0
    for _ in range(COPIES):
        name = chance.choice(sorted(sound))
        files = {**sound, name: damaged(sound[name], chance)}
        told = answer(client, files, **parameters)
        assert told.status_code in {200, 400, 404, 500}, told.text
        if told.status_code != 200:
            refused += 1
            assert told.json()["error"]
            assert "Traceback" not in told.text
        client.request("DELETE", "/api/delete", json={"model": "damaged"})
    assert refused >= COPIES // 3
    whole = answer(client, sound, **parameters)
    assert whole.status_code == 200, whole.text
    assert whole.json()["response"]
