"""A scripted server that speaks the contract's transcripts, and the command run against it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = os.pathsep.join(str(ROOT / room) for room in ("kernel", "api", "plugins"))


@dataclass
class Received:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """An answer to give; of one with `lines` each goes out on its own."""

    body: Any = None
    status: int = 200
    lines: list[Any] | None = None
    cut: bool = False  # the connection is closed in the middle
    hold: threading.Event | None = None  # waited for before the last line


Reply = Answer | Callable[[Received], Answer]


@dataclass
class Scripted:
    """What the server answers, and what it was asked."""

    replies: dict[tuple[str, str], Reply] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    address: str = ""
    gone: threading.Event = field(default_factory=threading.Event)  # a client left in mid-answer

    def on(self, method: str, path: str, reply: Reply) -> None:
        self.replies[method, path] = reply

    def bodies(self, path: str) -> list[Any]:
        return [r.json for r in self.received if r.path == path and r.body]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: Scripted

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self) -> None:
        request = Received(self.command, self.path, dict(self.headers), self._body())
        self.scripted.received.append(request)
        default = Answer() if self.path == "/" else Answer(b"404 page not found", 404)
        reply = self.scripted.replies.get((self.command, self.path), default)
        answer = reply if isinstance(reply, Answer) else reply(request)
        if answer.lines is None:
            self._send(answer)
        else:
            self._stream(answer)

    do_GET = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 - the names that the class wants

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = b""
            while size := int(self.rfile.readline(), 16):
                pieces += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return pieces
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, answer: Answer) -> None:
        body = b"" if answer.body is None else answer.body
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _stream(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        lines = answer.lines or []
        for number, line in enumerate(lines, 1):
            if answer.hold and number == len(lines):
                self._wait(answer.hold)
            raw = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
            self._chunk(raw)
        if answer.cut:
            self.close_connection = True
            return
        self._chunk(b"")

    def _wait(self, hold: threading.Event) -> None:
        self.connection.settimeout(0.05)
        while not hold.is_set():
            try:
                if self.connection.recv(1) == b"":
                    self.scripted.gone.set()
                    return
            except TimeoutError:
                continue

    def _chunk(self, raw: bytes) -> None:
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
            self.wfile.flush()
        except OSError:
            self.scripted.gone.set()


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    script = Scripted()
    handler = type("Handler", (_Handler,), {"scripted": script})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    script.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield script
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str


class Corral:
    """Runs the command against the scripted server."""

    def __init__(self, home: Path, server: Scripted) -> None:
        self.server = server
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))
        }
        inherited.pop("PYTHONUNBUFFERED", None)  # it has Python lose the errors of long writes
        self.env = inherited | {
            "CORRAL_HOST": server.address,
            "CORRAL_HOME": str(home),
            "HOME": str(home),
            "PYTHONPATH": SOURCES,
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "TERM": "xterm-256color",
        }

    def __call__(self, *args: str, stdin: str = "", cwd: Path | None = None) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "corral_cli", *args],
            input=stdin.encode(),
            capture_output=True,
            env=self.env,
            cwd=cwd,
            check=False,
            timeout=60,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def corral(tmp_path: Path, scripted: Scripted) -> Corral:
    return Corral(tmp_path / "home", scripted)


@pytest.fixture
def answer() -> type[Answer]:
    """Makes replies; tests cannot import this file."""
    return Answer


@pytest.fixture
def babbler() -> Iterator[str]:
    """The address of something that listens and speaks no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"220 ready when you are\r\n")
                    connection.recv(1024)

        thread = threading.Thread(target=babble)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()
