"""Servers with models of echo that go wrong as they are told to."""

import contextlib
import hashlib
import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
LIMIT_S = 60.0
"""How long anything may take that comes by itself; only a failing test waits for so long."""


def varied(length: int) -> str:
    """Text in which no piece is repeated often."""
    return "".join(f"{n:x} " for n in range(length))[:length]


class Served:
    """A server, and what tests do with it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=LIMIT_S)

    def create(self, name: str, **parameters: Any) -> None:
        """Make a model of weights of its own, which echo runs."""
        data = TINY.read_bytes() + name.encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        body = {
            "model": name,
            "files": {"m.gguf": digest},
            "parameters": {"backend": "echo", **parameters},
            "stream": False,
        }
        self.client.post("/api/create", json=body).raise_for_status()

    @staticmethod
    def body(model: str, prompt: str, **fields: Any) -> dict[str, Any]:
        return {"model": model, "prompt": prompt, "raw": True, **fields}

    def ask(self, model: str, prompt: str = "hello", **fields: Any) -> httpx.Response:
        body = self.body(model, prompt, stream=False, **fields)
        return self.client.post("/api/generate", json=body)

    def works(self, model: str) -> None:
        answer = self.ask(model, "it works")
        assert answer.status_code == 200, answer.text
        assert answer.json()["response"] == "it works"

    def is_full(self, model: str, patience_s: float = 0.3) -> bool:
        """Whether one more request would be refused; with a free slot it is answered."""
        body = self.body(model, "x", stream=False)
        try:
            answer = self.client.post("/api/generate", json=body, timeout=patience_s)
        except httpx.ReadTimeout:
            return False
        return answer.status_code == 503

    def is_busy(self, model: str, patience_s: float = 0.3) -> bool:
        """Whether one more request has to wait."""
        body = self.body(model, "x", stream=False)
        try:
            self.client.post("/api/generate", json=body, timeout=patience_s)
        except httpx.ReadTimeout:
            return True
        return False

    @contextlib.contextmanager
    def stream(self, model: str, prompt: str, **fields: Any) -> Iterator[Iterator[Any]]:
        """The objects of a streamed answer, as they come."""
        body = self.body(model, prompt, **fields)
        with self.client.stream("POST", "/api/generate", json=body) as answer:
            assert answer.status_code == 200
            yield (json.loads(line) for line in answer.iter_lines())

    def connect(self, model: str, prompt: str, **fields: Any) -> socket.socket:
        """Send a request over a bare connection, whose receiving buffer is small."""
        url = httpx.URL(self.server.url)
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(LIMIT_S)
        connection.connect((url.host, url.port))
        body = json.dumps(self.body(model, prompt, **fields)).encode()
        head = f"POST /api/generate HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body)}"
        connection.sendall(f"{head}\r\n\r\n".encode() + body)
        return connection

    def queue(self, model: str, prompt: str, **fields: Any) -> socket.socket:
        """Send a request that has to wait; one that is refused is sent again."""
        while True:
            connection = self.connect(model, prompt, **fields)
            for _ in range(5):  # what is refused is told before these later requests are answered
                self.client.post("/api/show", json={"model": model}).raise_for_status()
            if not select.select([connection], [], [], 0.3)[0]:
                return connection
            answer = connection.recv(12)
            connection.close()
            assert answer == b"HTTP/1.1 503"

    def workers(self) -> list[int]:
        """Processes that the server started."""
        children = psutil.Process(self.server.process.pid).children(recursive=True)
        return [child.pid for child in children]

    def loaded(self) -> list[str]:
        return [entry["name"] for entry in self.client.get("/api/ps").json()["models"]]


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another process does, which tells nobody."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Tools:
    """The functions above, for tests, which cannot import this file."""

    wait_gone: Callable[[int], None]
    until = staticmethod(until)
    varied = staticmethod(varied)


@pytest.fixture(scope="session")
def tools(wait_gone: Callable[[int], None]) -> type[Tools]:
    Tools.wait_gone = staticmethod(wait_gone)
    return Tools


@pytest.fixture(scope="module")
def serve(
    start_server: Callable[..., Any], wait_gone: Callable[[int], None]
) -> Iterator[Callable[..., Served]]:
    """Start servers: `serve(NUM_PARALLEL="1")`; they end with the module and leave no process."""
    started: list[Served] = []

    def start(**settings: str) -> Served:
        ours = {"CORRAL_PLUGINS": "echo,chat", "CORRAL_MEMORY_BUDGET": "1GiB"}
        ours |= {f"CORRAL_{name}": value for name, value in settings.items()}
        served = Served(start_server(**ours))
        started.append(served)
        return served

    yield start
    for served in started:
        served.client.close()
        workers = served.workers() if served.server.process.poll() is None else []
        served.server.stop()
        for pid in workers:
            wait_gone(pid)
