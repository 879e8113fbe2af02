"""Against `docker-registry` with a token server of the kind that Docker means."""

import base64
import contextlib
import datetime as dt
import hashlib
import http.server
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
USER = "ci:s3cret"
IDENTITY = "an identity token"
SERVICE, ISSUER = "the registry", "the token server"
MANIFEST = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}

pytestmark = pytest.mark.skipif(
    shutil.which("docker-registry") is None,
    reason="needs docker-registry: apt-get install docker-registry",
)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Tokens:
    """Gives tokens for repositories whose names begin with `lib/`, to one user."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        today = dt.datetime.now(dt.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(today - dt.timedelta(days=1))
            .not_valid_after(today + dt.timedelta(days=1))
            .sign(self._key, SHA256())
        )

    def token(self, scopes: list[str]) -> str:
        self.asked.append(scopes)
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            if name.startswith("lib/"):
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": SERVICE, "sub": "ci", "jti": str(now), "access": access}
        times = {"iat": now, "nbf": now - 60, "exp": now + 3600}
        der = self.certificate.public_bytes(Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        signed = ".".join(_text(json.dumps(part).encode()) for part in (header, claims | times))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(SHA256())))
        return f"{signed}.{_text(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@contextlib.contextmanager
def serving(tokens: Tokens) -> Iterator[str]:
    """Serve tokens; gives the address."""
    wanted = "Basic " + base64.b64encode(USER.encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            self._answer("token", scopes, known=self.headers.get("Authorization") == wanted)

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(text).items()}
            known = (form["grant_type"], form["refresh_token"]) == ("refresh_token", IDENTITY)
            self._answer("access_token", form["scope"].split(), known=known)

        def _answer(self, field: str, scopes: list[str], *, known: bool) -> None:
            said = {field: tokens.token(scopes)} if known else {"details": "who are you?"}
            data = json.dumps(said).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def places(lab: Any, tmp_path: Path, tokens: Tokens) -> Iterator[tuple[str, str]]:
    """Addresses of a registry and of the token server that it sends everybody to."""
    folder = tmp_path / "registry"
    folder.mkdir()
    roots = folder / "roots.pem"
    roots.write_bytes(tokens.certificate.public_bytes(Encoding.PEM))
    with serving(tokens) as realm:
        auth = (
            f"auth: {{token: {{realm: 'http://{realm}/token', service: '{SERVICE}', "
            f"issuer: '{ISSUER}', rootcertbundle: '{roots}'}}}}\n"
        )
        with lab.docker_registry(folder, auth) as address:
            yield address, realm


def with_tiny(client: httpx.Client, name: str) -> None:
    data = TINY.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body = {"model": name, "files": {"m.gguf": digest}, "stream": False}
    client.post("/api/create", json=body).raise_for_status()


def last_line(client: httpx.Client, route: str, model: str) -> Any:
    answer = client.post(route, json={"model": model, "insecure": True})
    return json.loads(answer.text.splitlines()[-1])


def digest_of(client: httpx.Client, name: str) -> str:
    models = client.get("/api/tags").json()["models"]
    return next(str(model["digest"]) for model in models if model["name"] == name)


def test_a_model_is_pushed_deleted_and_pulled_by_tokens(
    lab: Any, tmp_path: Path, tokens: Tokens, places: tuple[str, str]
) -> None:
    address, realm = places
    name = f"{address}/lib/tiny:x"
    with (
        lab.running_server(tmp_path / "home", CORRAL_REGISTRY_AUTH=f"{realm}={USER}") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        with_tiny(client, name)
        before = digest_of(client, name)
        assert last_line(client, "/api/push", name) == {"status": "success"}
        client.request("DELETE", "/api/delete", json={"model": name}).raise_for_status()
        assert last_line(client, "/api/pull", name) == {"status": "success"}
        assert digest_of(client, name) == before
    scopes = [scope for asked in tokens.asked for scope in asked]
    assert [s for s in scopes if s.startswith("repository:lib/tiny:") and "push" in s]
    assert "s3cret" not in "".join(server.log)


def test_an_identity_token_of_docker_s_file_is_good_for_tokens(
    lab: Any, tmp_path: Path, tokens: Tokens, places: tuple[str, str]
) -> None:
    address, realm = places
    name = f"{address}/lib/tiny:x"
    entry = {"auth": base64.b64encode(b"<token>:").decode(), "identitytoken": IDENTITY}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {realm: entry}}))
    with (
        lab.running_server(tmp_path / "home", DOCKER_CONFIG=str(tmp_path)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        with_tiny(client, name)
        assert last_line(client, "/api/push", name) == {"status": "success"}
        client.request("DELETE", "/api/delete", json={"model": name}).raise_for_status()
        assert last_line(client, "/api/pull", name) == {"status": "success"}
    assert ["repository:lib/tiny:pull"] in tokens.asked
    assert IDENTITY not in "".join(server.log)


def test_without_a_user_for_the_token_server_it_is_asked_for_nothing(
    lab: Any, tmp_path: Path, tokens: Tokens, places: tuple[str, str]
) -> None:
    address, realm = places
    auth = f"{address}={USER}"  # the registry's own, which are not for the token server
    with (
        lab.running_server(tmp_path / "home", CORRAL_REGISTRY_AUTH=auth) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        error = last_line(client, "/api/pull", f"{address}/lib/tiny:x")["error"]
    assert f'realm host "{realm}" does not match original host "{address}"' in error
    assert not tokens.asked


def test_what_cannot_be_mounted_from_a_repository_of_others_is_sent(
    lab: Any, tmp_path: Path, tokens: Tokens, places: tuple[str, str]
) -> None:
    address, realm = places
    heir = f"{address}/lib/heir:x"
    with (
        lab.running_server(tmp_path / "home", CORRAL_REGISTRY_AUTH=f"{realm}={USER}") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        with_tiny(client, "tiny")
        body = {"model": heir, "from": "tiny", "system": "Be brief.", "stream": False}
        client.post("/api/create", json=body).raise_for_status()
        assert last_line(client, "/api/push", heir) == {"status": "success"}
        client.request("DELETE", "/api/delete", json={"model": heir}).raise_for_status()
        assert last_line(client, "/api/pull", heir) == {"status": "success"}
    assert any("repository:library/tiny:pull" in scopes for scopes in tokens.asked)
