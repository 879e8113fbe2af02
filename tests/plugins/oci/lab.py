"""An imitation of a registry that does what it is told, and a store to pull into."""

import contextlib
import hashlib
import http.server
import importlib.util
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from corral_kernel.plugins import Plugins
from corral_kernel.store import Store
from corral_kernel.transfers import Manner, Transfers

WEIGHTS = "application/vnd.ollama.image.model"
CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIMIT_S = 60.0
"""How long anything may take that comes by itself; only a failing test waits for so long."""

QUICK = Manner(streams=4, part_bytes=1 << 16, stall_s=LIMIT_S, attempts=3, pause_s=0.01)
"""Small parts, and few attempts."""

CERTIFICATE = Path(__file__).parents[1] / "remote" / "certificates" / "localhost.pem"
_PIECE = 16 << 10


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(data: bytes, media_type: str = WEIGHTS, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def manifest_of(config: bytes, *layers: bytes | dict[str, Any]) -> bytes:
    """A manifest that no encoder of ours would write just so."""
    found = [entry if isinstance(entry, dict) else layer(entry) for entry in layers]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layer(config, CONFIG),
        "layers": found,
    }
    return json.dumps(document, indent=1).encode()


@dataclass
class Seen:
    """A request that came in."""

    method: str
    path: str  # without the query
    query: dict[str, list[str]]
    target: str  # with it, as it was sent
    headers: dict[str, str]  # names in lower case
    body: bytes = b""

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last byte that are asked for."""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return (int(found[1]), int(found[2])) if found else None


@dataclass
class Reply:
    """What to answer; `cut` and `hold` come after so many bytes of the body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    hold: int | None = None
    gate: threading.Event = field(default_factory=threading.Event)  # what `hold` waits for


@dataclass
class Imitation:
    """A registry. `script` may answer in its place, or change what it answers."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)  # bytes of bodies, by path
    script: Callable[[Seen, Reply], Reply | None] | None = None
    authority: str = ""
    ranges: bool = True
    uploads: dict[str, bytearray] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    on_send: Callable[[int], None] | None = None  # told of each piece before it is sent
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://{self.authority}"

    def offer(self, name: str, raw: bytes, *blobs: bytes) -> str:
        """Put a model there; gives its whole name."""
        repository, _, tag = name.partition(":")
        self.manifests[f"/v2/{repository}/manifests/{tag or 'latest'}"] = raw
        self.blobs.update({digest_of(blob): blob for blob in blobs})
        return f"{self.authority}/{name}"

    def asked(self, method: str, part: str = "") -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and part in seen.path]

    def wanted_bytes(self, digest: str) -> int:
        """Bytes of a blob that were asked for, however often."""
        spans = [seen.span for seen in self.asked("GET", digest)]
        return sum(last - first + 1 for first, last in filter(None, spans))

    def answer(self, seen: Seen) -> Reply:
        reply = self._usual(seen)
        return (self.script(seen, reply) if self.script else None) or reply

    def _usual(self, seen: Seen) -> Reply:
        if seen.method in ("POST", "PATCH") or "/uploads/" in seen.path:
            return self._upload(seen)
        if seen.method == "PUT":
            self.manifests[seen.path] = seen.body
            return Reply(201)
        raw = self.manifests.get(seen.path)
        if raw is None:
            raw = self.blobs.get(seen.path.rpartition("/")[2])
        if raw is None:
            return Reply(404, body=b'{"errors":[{"code":"UNKNOWN"}]}')
        if seen.span is None or not self.ranges:
            return Reply(body=raw)
        first, last = seen.span
        where = {"Content-Range": f"bytes {first}-{min(last, len(raw) - 1)}/{len(raw)}"}
        return Reply(206, where, raw[first : last + 1])

    def _upload(self, seen: Seen) -> Reply:
        if seen.method == "POST":
            mounted = seen.query.get("mount", [""])[0]
            if mounted in self.blobs:
                return Reply(201)
            key = f"{seen.path}{len(self.uploads)}"
            self.uploads[key] = bytearray()
            return Reply(202, {"Location": f"{self.url}{key}?state=a%3D"})
        data = self.uploads[seen.path]
        data += seen.body
        if seen.method == "PATCH":
            return Reply(202, {"Location": f"{seen.path}?state=b"})
        digest = seen.query["digest"][0]
        if digest_of(bytes(data)) != digest:
            return Reply(400, body=b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        self.blobs[digest] = bytes(data)
        return Reply(201)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    imitation: Imitation

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = parse_qs(parts.query, keep_blank_values=True)
        seen = Seen(self.command, parts.path, query, self.path, headers, body)
        with self.imitation.lock:
            self.imitation.seen.append(seen)
            reply = self.imitation.answer(seen)
        with contextlib.suppress(OSError):
            self._send(seen, reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 - the names that the class wants

    def _send(self, seen: Seen, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        stops = [stop for stop in (reply.cut, reply.hold) if stop is not None]
        for start in range(0, len(reply.body), _PIECE):
            end = min(start + _PIECE, len(reply.body), *(s for s in stops if s > start))
            if start in stops or (reply.hold is not None and start >= reply.hold):
                break
            self._piece(seen, reply.body[start:end])
            if end in stops:
                break
        if reply.hold is not None:
            while not reply.gate.wait(0.05) and not self.imitation.closing.is_set():
                pass
            self._piece(seen, reply.body[reply.hold :])
        elif reply.cut is not None:
            self.close_connection = True

    def _piece(self, seen: Seen, data: bytes) -> None:
        if self.imitation.on_send:
            self.imitation.on_send(len(data))
        self.wfile.write(data)
        with self.imitation.lock:
            self.imitation.sent[seen.path] += len(data)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what is tested."""


@contextlib.contextmanager
def imitation(
    *, tls: bool = False, wrap: Callable[[Any], Any] | None = None
) -> Iterator[Imitation]:
    """Run a registry; with TLS it is `localhost`, whose certificate `CERTIFICATE` is.

    `wrap` puts something else around the socket that it listens on.
    """
    found = Imitation()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"imitation": found}))
    found.authority = f"127.0.0.1:{server.server_address[1]}"
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        found.authority = f"localhost:{server.server_address[1]}"
    if wrap is not None:
        server.socket = wrap(server.socket)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        found.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def docker_registry(folder: Path, auth: str = "") -> Iterator[str]:
    """Run a registry; gives its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f'http: {{addr: "{address}"}}\n{auth}'
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
        try:
            _wait(process, address, folder / "log")
            yield address
        finally:
            process.terminate()
            process.wait()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Nothing tells when it listens, so it is asked until it answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"http://{address}/v2/", timeout=30)
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        else:
            return


class Site:
    """A store with its transfers; what a server has of them."""

    def __init__(self, home: Path, manner: Manner = QUICK, auth: str = "") -> None:
        self.home = home
        self.store = Store(home / "models", home / "cache")
        self.store.start_up()
        plugins = Plugins(only=("oci",))
        self.transfers = Transfers(self.store, plugins.registry_for, home, auth=auth, manner=manner)

    async def pull(self, name: str, *, insecure: bool = True) -> list[Any]:
        return [step async for step in self.transfers.pull(name, insecure=insecure)]

    async def push(self, name: str, *, insecure: bool = True) -> list[Any]:
        return [step async for step in self.transfers.push(name, insecure=insecure)]

    def files(self) -> set[str]:
        """Names of what lies among the blobs."""
        return {entry.name for entry in self.store.blobs.entries()}


def blob_file(digest: str) -> str:
    return digest.replace(":", "-")


def running_server(home: Path, **settings: str) -> Any:
    """See `tests/conftest.py`; here the folder is given, so that a server can be started anew."""
    spec = importlib.util.spec_from_file_location(
        "oci_servers", Path(__file__).parents[2] / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.get(spec.name)
    if module is None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module.running_server(home, **settings)


def random_bytes(size: int) -> bytes:
    return os.urandom(size)
