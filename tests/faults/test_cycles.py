"""A server that made, loaded and unloaded real models two hundred times is as it was."""

import concurrent.futures
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
CYCLES, WARMING = 200, 40
AT_ONCE = 4
ROOM_BYTES = 12 << 20
"""What an allocator and a pool of threads may come to keep besides."""


class Facts(NamedTuple):
    resident_bytes: int
    descriptors: int
    threads: int
    files: int


def cycle(client: httpx.Client, name: str, number: int) -> None:
    """Bring weights of its own, make a model of them, ask it, unload and delete it."""
    data = TINY.read_bytes() + f"{name} {number}".encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body: dict[str, Any] = {"model": name, "files": {"m.gguf": digest}, "stream": False}
    client.post("/api/create", json=body).raise_for_status()
    body = {
        "model": name,
        "messages": [{"role": "user", "content": "capital of France?"}],
        "options": {"num_thread": 1, "temperature": 0},
        "stream": False,
        "keep_alive": 0,
    }
    answer = client.post("/api/chat", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["message"]["content"] == "Paris."
    client.request("DELETE", "/api/delete", json={"model": name}).raise_for_status()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_models_leave_no_memory_descriptor_thread_file_or_process(
    serve: Callable[..., Any], tools: Any
) -> None:
    served = serve(PLUGINS="llamacpp,chat", MAX_LOADED_MODELS=str(AT_ONCE))
    server = psutil.Process(served.server.process.pid)

    def rounds(name: str, count: int) -> None:
        with httpx.Client(base_url=served.server.url, timeout=60) as client:
            for number in range(count):
                cycle(client, name, number)

    def after(count: int) -> Facts:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            done = [pool.submit(rounds, f"m{n}", count // AT_ONCE) for n in range(AT_ONCE)]
            for one in done:
                one.result()
        tools.until(lambda: not served.loaded())
        tools.until(lambda: len(served.workers()) == 1)  # the spare one is up again
        files = sum(path.is_file() for path in served.server.home.rglob("*"))
        memory = server.memory_info().rss
        return Facts(memory, server.num_fds(), server.num_threads(), files)

    before = after(WARMING)
    now = after(CYCLES - WARMING)
    assert now.resident_bytes - before.resident_bytes < ROOM_BYTES
    assert now.descriptors <= before.descriptors + AT_ONCE  # connections that are being closed
    assert now.files <= before.files
    assert now.threads <= before.threads + 8  # a pool that grows to a bound
    assert served.client.get("/api/tags").json() == {"models": []}
