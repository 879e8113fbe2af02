"""A blob of hundreds of megabytes goes to the disk as it comes: the server does not grow."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest

PIECE = bytes(range(256)) * 4096
PIECES = 256
ROOM_BYTES = 48 << 20


@pytest.fixture
def served(serve: Callable[..., Any]) -> Any:
    return serve()


def grown(served: Any, run: Callable[[], None]) -> int:
    """How far the server's memory went above what it was, while something runs."""
    server = psutil.Process(served.server.process.pid)
    before = most = server.memory_info().rss
    running = threading.Thread(target=run)
    running.start()
    while running.is_alive():
        most = max(most, server.memory_info().rss)
        running.join(0.005)
    return most - before


def digest_of(first: bytes) -> str:
    sha = hashlib.sha256(first)
    for _ in range(PIECES):
        sha.update(PIECE)
    return f"sha256:{sha.hexdigest()}"


def pieces(first: bytes) -> Iterator[bytes]:
    yield first
    for _ in range(PIECES):
        yield PIECE


@pytest.mark.parametrize("sized", [True, False], ids=["with a length", "in chunks"])
def test_uploads_at_once_are_not_held_in_memory(served: Any, *, sized: bool) -> None:
    uploads = [b"first", b"2nd"]
    statuses: list[int] = []

    def upload(first: bytes) -> None:
        length = str(len(first) + PIECES * len(PIECE))
        headers = {"Content-Length": length} if sized else {}
        url = f"/api/blobs/{digest_of(first)}"
        with httpx.Client(base_url=served.server.url, timeout=60) as client:
            statuses.append(client.post(url, content=pieces(first), headers=headers).status_code)

    def run() -> None:
        threads = [threading.Thread(target=upload, args=(first,)) for first in uploads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert grown(served, run) < ROOM_BYTES
    assert statuses == [201, 201]
    for first in uploads:
        name = digest_of(first).replace(":", "-")
        stored = served.server.home / "models" / "blobs" / name
        assert stored.stat().st_size == len(first) + PIECES * len(PIECE)
        stored.unlink()
