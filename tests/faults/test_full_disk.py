"""A full disk: what is written fails in words, what is stored goes on serving."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"


@pytest.fixture(params=["the store", "everything"])
def crowded(
    request: pytest.FixtureRequest, tmp_path: Path, start_server: Callable[..., Any]
) -> Iterator[tuple[httpx.Client, Path]]:
    """A server with one model, whose disk has been filled up since."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        settings = {"CORRAL_MODELS": str(disk / "models")}
        if request.param == "everything":
            settings = {"CORRAL_HOME": str(disk)}
        server = start_server(CORRAL_PLUGINS="llamacpp,chat", **settings)
        with httpx.Client(base_url=server.url, timeout=30) as client:
            data = TINY.read_bytes()
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
            body = {"model": "tiny", "files": {"m.gguf": digest}, "stream": False}
            client.post("/api/create", json=body).raise_for_status()
            fill(disk / "filler")
            yield client, disk / "models"
        server.stop()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    size = 1 << 16
    with path.open("wb", buffering=0) as file:
        while size:
            try:
                file.write(b"z" * size)
            except OSError:
                size //= 2


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:
    options = {"num_thread": 1, "temperature": 0}
    messages = [{"role": "user", "content": "capital of France?"}]
    body = {"model": "tiny", "messages": messages, "options": options, "stream": False, **fields}
    return client.post("/api/chat", json=body)


def names(client: httpx.Client) -> list[str]:
    return [model["name"] for model in client.get("/api/tags").json()["models"]]


def test_models_that_are_there_answer(crowded: tuple[httpx.Client, Path]) -> None:
    client, _ = crowded
    assert ask(client).json()["message"]["content"] == "Paris."
    assert names(client) == ["tiny:latest"]
    assert client.post("/api/show", json={"model": "tiny"}).status_code == 200


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_create_fails_in_words_and_leaves_nothing(
    crowded: tuple[httpx.Client, Path], *, stream: bool
) -> None:
    client, models = crowded
    before = {path for path in models.rglob("*") if path.is_file()}
    body = {"model": "new", "from": "tiny", "system": "s" * 100_000, "stream": stream}
    answer = client.post("/api/create", json=body)
    assert "the disk is full" in answer.text.splitlines()[-1]
    assert "Traceback" not in answer.text
    assert names(client) == ["tiny:latest"]
    assert {path for path in models.rglob("*") if path.is_file()} == before
    assert ask(client).status_code == 200


def test_an_upload_fails_in_words_and_leaves_nothing(crowded: tuple[httpx.Client, Path]) -> None:
    client, models = crowded
    before = {path for path in models.rglob("*") if path.is_file()}
    data = b"z" * 500_000
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    answer = client.post(f"/api/blobs/{digest}", content=data)
    assert answer.status_code == 500
    assert "the disk is full" in answer.json()["error"]
    assert {path for path in models.rglob("*") if path.is_file()} == before


def test_what_is_deleted_makes_room_again(crowded: tuple[httpx.Client, Path]) -> None:
    client, models = crowded
    (models.parent / "filler").unlink()
    body = {"model": "new", "from": "tiny", "system": "s" * 100_000, "stream": False}
    assert client.post("/api/create", json=body).status_code == 200
    fill(models.parent / "filler")
    for name in ("new", "tiny"):
        answer = client.request("DELETE", "/api/delete", json={"model": name})
        assert answer.status_code == 200, answer.text
    assert names(client) == []
    assert [path for path in (models / "blobs").iterdir() if path.is_file()] == []
