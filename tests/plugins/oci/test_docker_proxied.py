"""A real registry, Debian's `docker-registry`, behind a proxy that fails in every way."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral_kernel.errors import RegistryError
from corral_kernel.names import ModelName

CONFIG = b'{"model_format":"gguf","model_family":"llama"}'
LEFT_OUT = ("transfer-encoding", "connection", "content-length")

pytestmark = pytest.mark.skipif(
    shutil.which("docker-registry") is None,
    reason="needs docker-registry: apt-get install docker-registry",
)


class Proxy:
    """Hands requests on to the registry; `harm` changes answers that hold much of a blob."""

    def __init__(self, lab: Any, address: str, front: Any) -> None:
        self.lab, self.address, self.front = lab, address, front
        self.harm: Callable[[Any, Any], Any] = lambda _seen, reply: reply
        front.script = self.answer

    def hand_on(self, seen: Any) -> Any:
        headers = {k: v for k, v in seen.headers.items() if k in ("accept", "range")}
        url = f"http://{self.address}{seen.target}"
        got = httpx.request(seen.method, url, headers=headers, timeout=60)
        kept = {k: v for k, v in got.headers.items() if k.lower() not in LEFT_OUT}
        if seen.method == "HEAD":
            kept["Content-Length"] = got.headers.get("content-length", "0")
        return self.lab.Reply(got.status_code, kept, got.content)

    def answer(self, seen: Any, _reply: Any) -> Any:
        reply = self.hand_on(seen)
        return self.harm(seen, reply) if len(reply.body) > 1000 else reply


@pytest.fixture
def proxy(lab: Any, tmp_path: Path, registry: Any) -> Iterator[Proxy]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with lab.docker_registry(folder) as address:
        yield Proxy(lab, address, registry)


@pytest.fixture
async def pushed(lab: Any, tmp_path: Path, proxy: Proxy) -> tuple[str, bytes, bytes]:
    """A model that is in the registry: its name, its manifest and its large blob."""
    data = lab.random_bytes(1_000_000)
    raw = lab.manifest_of(CONFIG, data)
    name = f"{proxy.front.authority}/lib/m:x"
    site = lab.Site(tmp_path / "pusher")
    for blob in (CONFIG, data):
        with site.store.blobs.writer() as writer:
            writer.write(blob)
            writer.finish()
    direct = f"{proxy.address}/lib/m:x"
    site.store.publish(ModelName.parse(direct), raw)
    await site.push(direct)
    return name, raw, data


async def test_each_failure_once_is_got_over(
    lab: Any, tmp_path: Path, proxy: Proxy, elsewhere: Any, pushed: tuple[str, bytes, bytes]
) -> None:
    name, raw, data = pushed
    elsewhere.script = lambda seen, _reply: proxy.hand_on(seen)

    def cut(_seen: Any, reply: Any) -> Any:
        reply.cut = 30_000
        return reply

    def redirected(seen: Any, _reply: Any) -> Any:
        return lab.Reply(307, {"Location": f"{elsewhere.url}{seen.target}"})

    failures = [
        cut,
        lambda _seen, _reply: lab.Reply(500),
        lambda _seen, _reply: lab.Reply(429, {"Retry-After": "0"}),
        lambda _seen, _reply: lab.Reply(503, {"Retry-After": "0"}),
        redirected,
    ]
    proxy.harm = lambda seen, reply: failures.pop(0)(seen, reply) if failures else reply
    site = lab.Site(tmp_path / "puller")
    await site.pull(name)

    assert not failures
    assert elsewhere.asked("GET", lab.digest_of(data))
    assert site.store.blobs.path(lab.digest_of(data)).read_bytes() == data
    stored, _ = site.store.find(ModelName.parse(name))
    assert stored.raw == raw


def flipped(_lab: Any, reply: Any) -> Any:
    reply.body = bytes([reply.body[0] ^ 1]) + reply.body[1:]
    return reply


def foreign_realm(lab: Any, _reply: Any) -> Any:
    return lab.Reply(401, {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:9/t",service="s"'})


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param((flipped, "digest mismatch"), id="other bytes"),
        pytest.param((foreign_realm, "does not match original host"), id="a realm elsewhere"),
    ],
)
async def test_what_cannot_be_got_over_stores_nothing_of_the_blob(
    lab: Any, proxy: Proxy, pushed: tuple[str, bytes, bytes], site: Any, wrong: tuple[Any, str]
) -> None:
    name, _, data = pushed
    harm, words = wrong
    proxy.harm = lambda _seen, reply: harm(lab, reply)
    with pytest.raises(RegistryError, match=words):
        await site.pull(name)
    assert lab.blob_file(lab.digest_of(data)) not in site.files()
    assert not list((site.home / "models" / "manifests").glob("*/*/*/*"))
