"""Other servers, a real one and one that answers whatever a test wants; and the engine."""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.contracts import LoadRequest
from corral_kernel.contracts.chat import Message
from corral_kernel.contracts.text import Ending, Piece, TextRequest
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_remote import corral_claim, corral_load
from corral_remote.options import RemoteOptions

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
CERTIFICATES = Path(__file__).parent / "certificates"
HERE = ("127.0.0.1", "localhost", "::1")
KEY = "sk-very-secret-0123456789"
LIMIT_S = 60.0
"""How long anything may take that comes by itself; only a failing test waits for so long."""

Reply = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]


# ------------------------------------------------------------------------------- scripted servers


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Scripted:
    """A server that gives its replies in turn, the last one for ever.

    `GET /models` is told apart: it is `listing`'s, or 404.
    """

    url: str
    replies: list[Reply]
    listing: Reply | None = None
    asked: list[Asked] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)  # a client hung up
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    port: int = 0
    context: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self.context
        )
        self.port = self._server.sockets[0].getsockname()[1]
        scheme, host = ("https", "localhost") if self.context else ("http", "127.0.0.1")
        self.url = f"{scheme}://{host}:{self.port}/v1"

    async def stop(self) -> None:
        """Close all connections and listen no more."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await self._talk(reader, writer)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while asked := await read_request(reader):
                if asked.method == "GET":
                    await (self.listing or status(404, {"detail": "Not Found"}))(asked, writer)
                    continue
                self.asked.append(asked)
                self.was_asked.set()
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                await reply(asked, writer)
                await writer.drain()
                if writer.is_closing():
                    break
            self.left.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None  # the client left
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.split(": ", 1) for line in lines if line)
    headers = {name.lower(): value for name, value in pairs}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(content) if content else None)


@contextlib.asynccontextmanager
async def serving(
    *replies: Reply, listing: Reply | None = None, tls: bool = False
) -> AsyncIterator[Scripted]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "localhost.pem", CERTIFICATES / "localhost.key")
    scripted = Scripted("", list(replies), listing, context=context)
    await scripted.start()
    try:
        yield scripted
    finally:
        await scripted.stop()


def head(code: int, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {code} X", *headers, "", "")).encode()


def status(code: int, body: Any = None, *headers: str) -> Reply:
    """Reply with a status and JSON, or with bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        kind = "content-type: application/json"
        writer.write(head(code, kind, f"content-length: {len(data)}", *headers) + data)

    return reply


EVENTS = head(200, "content-type: text/event-stream", "transfer-encoding: chunked")


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n" if data else b""


def events(*data: bytes) -> Reply:
    """Reply with a whole stream, each piece a chunk of its own."""

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"".join(map(chunked, data)) + b"0\r\n\r\n")

    return reply


def event(chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


def said(text: str = "", reason: str | None = None, **delta: str) -> bytes:
    """Make an event of a chat's stream."""
    told = {"content": text, **delta} if text or delta else {}
    return event({"choices": [{"index": 0, "delta": told, "finish_reason": reason}]})


STOP = said(reason="stop")
DONE = b"data: [DONE]\n\n"
HELLO = events(said("Hel"), said("lo"), STOP, DONE)


def then_hang(*data: bytes) -> Reply:
    """Reply with the beginning of a stream, and nothing more."""

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"".join(map(chunked, data)))

    return reply


def then_cut(*data: bytes) -> Reply:
    """Reply with the beginning of a stream, and hang up."""

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"".join(map(chunked, data)))
        await writer.drain()
        writer.close()

    return reply


async def never(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Take a request and say nothing."""


# ----------------------------------------------------------------------------------- the engine


def stub(url: str, target: str = "there", **config: Any) -> Model:
    parameters = config.pop("parameters", {})
    return Model(
        name=ModelName.parse("here"),
        digest="0" * 64,
        size_bytes=1,
        modified_ns=0,
        config=ModelConfig(remote_host=url, remote_model=target, **config),
        files=(),
        parameters=parameters,
    )


def load_request(url: str, *, remotes: tuple[str, ...] = HERE, **options: Any) -> LoadRequest:
    capabilities = options.pop("capabilities", ("completion", "embedding"))
    claim = corral_claim(stub(url, capabilities=capabilities))
    assert claim is not None
    return LoadRequest(
        claim=claim,
        options=RemoteOptions(**options),
        files=(),
        slots=8,
        report=lambda _: True,
        remotes=remotes,
    )


@contextlib.asynccontextmanager
async def loaded(url: str, **options: Any) -> AsyncIterator[Any]:
    """Load the engine as a worker does, and close it after."""
    engine: Any = await asyncio.to_thread(corral_load, load_request(url, **options))
    try:
        yield engine
    finally:
        await engine.aclose()


def chat(*texts: str, **fields: Any) -> TextRequest:
    messages = tuple(Message(role="user", content=text) for text in texts or ("hi",))
    given = {"sampling": {}, "messages": messages, "target": "tiny"} | fields
    return TextRequest(job_id=1, **given)


def prompt(text: str, **fields: Any) -> TextRequest:
    return chat(**{"messages": None, "prompt": text} | fields)


@dataclass
class Heard:
    """All of an answer."""

    pieces: list[Piece]
    ending: Ending

    @property
    def text(self) -> str:
        return "".join(piece.content for piece in self.pieces)

    @property
    def thinking(self) -> str:
        return "".join(piece.thinking for piece in self.pieces)


async def answer(engine: Any, request: TextRequest | None = None) -> Heard:
    """Read an answer to its end, which must be its only one, and the last."""
    *pieces, ending = [piece async for piece in engine.generate(request or chat())]
    assert isinstance(ending, Ending)
    assert all(isinstance(piece, Piece) for piece in pieces)
    return Heard(pieces, ending)


async def within(waiting: Awaitable[Any]) -> Any:
    """Wait for what comes by itself."""
    async with asyncio.timeout(LIMIT_S):
        return await waiting


async def drained(answer: AsyncIterator[Any]) -> None:
    async for _ in answer:
        pass


async def moment(seconds: float) -> None:
    """Let time pass, for tests of what time does."""
    await asyncio.sleep(seconds)


async def cancelled_once(begun: asyncio.Event, work: Coroutine[Any, Any, Any]) -> None:
    """Cancel a task as soon as something begun."""
    task = asyncio.create_task(work)
    await within(begun.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def together(work: Iterable[Awaitable[Any]]) -> list[Any]:
    return list(await within(asyncio.gather(*work)))


# ------------------------------------------------------------------------------- the real server


class Log:
    """What a process prints, as it prints it."""

    def __init__(self) -> None:
        self.text = ""
        self._grown = threading.Condition()

    def add(self, line: str) -> None:
        with self._grown:
            self.text += line
            self._grown.notify_all()

    def wait_for(self, words: str) -> None:
        with self._grown:
            assert self._grown.wait_for(lambda: words in self.text, LIMIT_S), self.text[-2000:]


@contextlib.contextmanager
def llama_server(
    folder: Path, *models: dict[str, Any], port: int = 0
) -> Iterator[tuple[Any, str, Log]]:
    """Run llama-cpp-python's server; give its process, its base URL, its log."""
    defaults = {"n_threads": 1, "n_ctx": 512}
    config = {
        "host": "127.0.0.1",
        "port": port,
        "interrupt_requests": False,
        "models": [defaults | model for model in models],
    }
    path = folder / "server.json"
    path.write_text(json.dumps(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "llama_cpp.server", "--config_file", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines = process.stdout
    log = Log()
    mark = "Uvicorn running on "
    try:
        for line in lines:
            log.add(line)
            if mark in line:
                break
        else:
            pytest.fail(f"llama-cpp-python's server ended:\n{log.text[-2000:]}")
        reader = threading.Thread(target=lambda: [log.add(line) for line in lines])
        reader.start()
        yield process, f"{line.partition(mark)[2].split()[0]}/v1", log
        process.kill()
        reader.join()
    finally:
        process.kill()
        process.wait()
        lines.close()
