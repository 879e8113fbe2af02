"""`hf.co/USER/REPOSITORY:QUANTIZATION` over Ollama's protocol, by its real name and over TLS.

The Hub is imitated on loopback. A proxy leads there, as one of a company's network would, so that
neither the name nor the scheme is another than a user's.
"""

import contextlib
import datetime as dt
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from corral_kernel.errors import RegistryError
from corral_kernel.names import ModelName

CONFIG = b'{"model_format":"gguf","model_family":"llama"}'
HUB, ALIAS, STORAGE = "hf.co", "huggingface.co", "cdn-lfs.hf.co"


def certificate(folder: Path, *hosts: str) -> Path:
    """A certificate for some hosts that vouches for itself; with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), False)  # noqa: FBT003 - not critical
        .sign(key, hashes.SHA256())
    )
    path = folder / "hub.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


class _Proxy(socketserver.ThreadingTCPServer):
    """Takes `CONNECT HOST:443`, and leads to where the host is imitated."""

    daemon_threads = True
    allow_reuse_address = True
    hosts: dict[str, tuple[str, int]]
    asked: list[str]


class _Tunnel(socketserver.StreamRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        words = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(words[1])
        target = self.server.hosts.get(words[1].partition(":")[0])
        if words[0] != "CONNECT" or target is None:
            self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with contextlib.suppress(OSError), socket.create_connection(target) as far:
            back = threading.Thread(target=_pump, args=(far, self.connection), daemon=True)
            back.start()
            _pump(self.connection, far)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def encrypted(lab: Any, pem: Path) -> Iterator[Any]:
    """An imitation that speaks TLS with a certificate of ours."""
    with lab.imitation(wrap=lambda plain: _wrapped(plain, pem)) as running:
        yield running


def _wrapped(plain: socket.socket, pem: Path) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context.wrap_socket(plain, server_side=True)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return certificate(tmp_path, HUB, ALIAS, STORAGE)


@pytest.fixture
def hub(lab: Any, pem: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The Hub, whose large files lie on another host; both are reached by their names."""
    with encrypted(lab, pem) as pages, encrypted(lab, pem) as storage:
        proxy = _Proxy(("127.0.0.1", 0), _Tunnel)
        proxy.asked = []
        proxy.hosts = {HUB: _address(pages), ALIAS: _address(pages), STORAGE: _address(storage)}
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        pages.storage, pages.proxy = storage, proxy
        pages.script = answer(lab, storage)
        try:
            yield pages
        finally:
            proxy.shutdown()
            thread.join()
            proxy.server_close()


def _address(imitation: Any) -> tuple[str, int]:
    host, _, port = imitation.authority.partition(":")
    return host, int(port)


def answer(lab: Any, storage: Any) -> Any:
    """What the Hub does beside a plain registry: manifests for Ollama alone, files elsewhere."""

    def script(seen: Any, reply: Any) -> Any:
        if "/manifests/" in seen.path and not seen.headers["user-agent"].startswith("ollama/"):
            return lab.Reply(400, {}, b'{"error":"for Ollama alone"}')
        if "/blobs/" in seen.path and len(reply.body) > 1000:
            digest = seen.path.rpartition("/")[2]
            where = f"https://{STORAGE}/repos/{digest}?X-Amz-Signature=abc"
            return lab.Reply(307, {"Location": where})
        return reply

    return script


@pytest.mark.parametrize("host", [HUB, ALIAS])
@pytest.mark.parametrize("tag", ["Q4_K_M", ""])
async def test_a_repository_of_gguf_files_is_pulled_by_its_name(
    lab: Any, hub: Any, site: Any, host: str, tag: str
) -> None:
    data = lab.random_bytes(300_000)
    hub.offer(f"User/Repo-GGUF:{tag}", lab.manifest_of(CONFIG, data), CONFIG, data)
    hub.storage.blobs[lab.digest_of(data)] = data
    name = f"{host}/User/Repo-GGUF" + (f":{tag}" if tag else "")
    steps = await site.pull(name, insecure=False)
    assert steps[-1].status == "success"
    stored, _ = site.store.find(ModelName.parse(name))
    assert stored.name.short == f"{host}/User/Repo-GGUF:{tag or 'latest'}"
    assert site.store.blobs.path(lab.digest_of(data)).read_bytes() == data
    assert set(hub.proxy.asked) == {f"{host}:443", f"{STORAGE}:443"}
    (asked,) = hub.asked("GET", "/manifests/")
    assert asked.path == f"/v2/User/Repo-GGUF/manifests/{tag or 'latest'}"
    assert all("authorization" not in seen.headers for seen in hub.storage.seen)


async def test_what_the_hub_says_of_a_repository_is_told(lab: Any, hub: Any, site: Any) -> None:
    said = b'{"error":"The specified tag is not available in the repository."}'
    hub.script = lambda _seen, _reply: lab.Reply(400, {}, said)
    with pytest.raises(RegistryError, match=r"pull model manifest: 400: .*tag is not available"):
        await site.pull("hf.co/User/Repo-GGUF:Q9", insecure=False)


async def test_a_gated_repository_is_opened_by_the_server_s_key_or_its_refusal_is_told(
    lab: Any, hub: Any, site: Any
) -> None:
    data = b"weights" * 10
    hub.offer("User/Gated:latest", lab.manifest_of(CONFIG, data), CONFIG, data)
    known: list[str] = []

    def script(seen: Any, reply: Any) -> Any:
        if seen.path == "/v2/token":
            known.append(seen.headers.get("authorization", ""))
            return lab.Reply(200, {}, b'{"token":"t"}')
        if seen.headers.get("authorization") != "Bearer t":
            challenge = f'Bearer realm="https://{HUB}/v2/token",service="hf",scope="x"'
            return lab.Reply(401, {"WWW-Authenticate": challenge})
        return reply

    hub.script = script
    steps = await site.pull("hf.co/User/Gated", insecure=False)
    assert steps[-1].status == "success"
    assert len(known) == 1
    assert ":" in known[0]  # a public key and a signature
    hub.script = lambda _s, _r: lab.Reply(
        403, {}, b'{"error":"Access to User/Gated is restricted"}'
    )
    with pytest.raises(RegistryError, match=r"403: .*is restricted"):
        await site.pull("hf.co/User/Gated", insecure=False)
