"""Pushes to an imitated registry: what is sent, what is told."""

from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import RegistryError
from corral_kernel.names import ModelName
from corral_oci import upload

CONFIG = b"{}"
DATA = bytes(range(256)) * 1000


def stored(lab: Any, site: Any, name: str, raw: bytes, *blobs: bytes) -> None:
    for blob in blobs:
        site.store.blobs.add(blob)
    site.store.publish(ModelName.parse(name), raw)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_PAUSE_S", 0.01)
    monkeypatch.setattr(upload, "_MIN_PART_BYTES", 100_000)  # so that there are several
    monkeypatch.setattr(upload, "_MAX_PART_BYTES", 100_000)


async def test_a_push_sends_blobs_in_parts_and_the_manifest_s_own_bytes_last(
    lab: Any, registry: Any, site: Any
) -> None:
    name = f"{registry.authority}/lib/m:x"
    raw = lab.manifest_of(CONFIG, DATA, b"")
    stored(lab, site, name, raw, CONFIG, DATA, b"")

    steps = await site.push(name)

    assert list(dict.fromkeys(step.status for step in steps)) == [
        "retrieving manifest",
        f"pushing {lab.digest_of(DATA)[7:19]}",
        f"pushing {lab.digest_of(b'')[7:19]}",
        f"pushing {lab.digest_of(CONFIG)[7:19]}",
        "pushing manifest",
        "success",
    ]
    whole = [s for s in steps if s.digest == lab.digest_of(DATA)][-1]
    assert (whole.total, whole.completed) == (len(DATA), len(DATA))
    assert registry.manifests["/v2/lib/m/manifests/x"] == raw
    assert registry.seen[-1].headers["content-type"] == lab.MANIFEST
    assert registry.blobs[lab.digest_of(DATA)] == DATA
    patches = [s for s in registry.asked("PATCH") if len(s.body) > 10]
    assert [s.headers["content-range"] for s in patches] == [
        "0-99999",
        "100000-199999",
        "200000-255999",
    ]
    assert {s.headers["x-redirect-uploads"] for s in patches} == {"1"}
    finish = next(
        s for s in registry.asked("PUT") if s.query.get("digest") == [lab.digest_of(DATA)]
    )
    assert finish.query["etag"][0].endswith("-3")


async def test_blobs_that_are_there_are_not_sent(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m", b"", CONFIG, DATA)
    stored(lab, site, name, lab.manifest_of(CONFIG, DATA), CONFIG, DATA)
    await site.push(name)
    assert registry.asked("POST") == registry.asked("PATCH") == []


async def test_a_blob_of_another_repository_is_mounted(lab: Any, registry: Any, site: Any) -> None:
    inherited = lab.layer(DATA) | {"from": "lib/other:x"}
    name = f"{registry.authority}/lib/m"
    stored(lab, site, name, lab.manifest_of(CONFIG, inherited), CONFIG, DATA)
    registry.blobs[lab.digest_of(DATA)] = DATA
    registry.script = lambda seen, _r: lab.Reply(404) if seen.method == "HEAD" else None
    await site.push(name)
    mount = registry.asked("POST")[0]
    assert mount.query == {"from": ["lib/other"], "mount": [lab.digest_of(DATA)]}
    assert not [s for s in registry.asked("PATCH") if len(s.body) > 10]


async def test_a_mount_that_is_not_possible_becomes_an_upload(
    lab: Any, registry: Any, site: Any
) -> None:
    inherited = lab.layer(DATA) | {"from": "/some/file.gguf"}
    name = f"{registry.authority}/lib/m"
    stored(lab, site, name, lab.manifest_of(CONFIG, inherited), CONFIG, DATA)
    await site.push(name)
    assert registry.blobs[lab.digest_of(DATA)] == DATA


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_mount_that_the_registry_refuses_becomes_an_upload(
    lab: Any, registry: Any, site: Any, status: int
) -> None:
    inherited = lab.layer(DATA) | {"from": "somebody/private:x"}
    name = f"{registry.authority}/lib/m"
    stored(lab, site, name, lab.manifest_of(CONFIG, inherited), CONFIG, DATA)
    registry.script = lambda seen, reply: lab.Reply(status) if "mount" in seen.query else reply
    await site.push(name)
    assert len([seen for seen in registry.asked("POST") if "mount" in seen.query]) == 1
    assert registry.blobs[lab.digest_of(DATA)] == DATA


async def test_a_part_is_sent_to_the_storage_that_the_registry_names_without_credentials(
    lab: Any, registry: Any, elsewhere: Any, tmp_path: Path
) -> None:
    site = lab.Site(tmp_path / "x", auth=f"{registry.authority}=me:pw")
    name = f"{registry.authority}/lib/m"
    stored(lab, site, name, lab.manifest_of(CONFIG, DATA), CONFIG, DATA)
    got: list[bytes] = []

    def script(seen: Any, reply: Any) -> Any:
        if "authorization" not in seen.headers:
            return lab.Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
        if seen.method == "PATCH":
            there = {"Location": f"{elsewhere.url}/bucket?sig=1"}
            return lab.Reply(307, there | {"Docker-Upload-Location": f"{registry.url}{seen.path}"})
        if seen.method == "PUT" and "digest" in seen.query:
            return lab.Reply(201)
        return reply

    def take(seen: Any, _reply: Any) -> Any:
        got.append(seen.body)
        return lab.Reply(200)

    registry.script, elsewhere.script = script, take
    await site.push(name)
    assert b"".join(got[:3]) == DATA
    assert {seen.method for seen in elsewhere.seen} == {"PUT"}
    assert not [seen for seen in elsewhere.seen if "authorization" in seen.headers]


@pytest.mark.parametrize("status", [429, 500, 416])
async def test_an_upload_that_fails_begins_anew(
    lab: Any, registry: Any, site: Any, status: int
) -> None:
    name = f"{registry.authority}/lib/m"
    stored(lab, site, name, lab.manifest_of(CONFIG, DATA), CONFIG, DATA)
    failed: list[Any] = []

    def script(seen: Any, _reply: Any) -> Any:
        if seen.method == "PATCH" and len(failed) < 2:
            failed.append(seen)
            return lab.Reply(status)
        return None

    registry.script = script
    await site.push(name)
    assert registry.blobs[lab.digest_of(DATA)] == DATA


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, r'^403: {"errors":\[{"code":"DENIED"}\]}$'),
        (404, "^file does not exist$"),
        (500, "^max retries exceeded: 500: "),
    ],
)
async def test_a_refusal_is_told(
    lab: Any, registry: Any, site: Any, status: int, words: str
) -> None:
    name = f"{registry.authority}/lib/m"
    stored(lab, site, name, lab.manifest_of(CONFIG, DATA), CONFIG, DATA)
    refusal = lab.Reply(status, body=b'{"errors":[{"code":"DENIED"}]}')
    registry.script = lambda seen, _reply: refusal if seen.method == "POST" else None
    with pytest.raises(RegistryError, match=words):
        await site.push(name)
    assert registry.manifests == {}


async def test_a_model_that_is_not_here_is_told_in_ollama_s_words(site: Any) -> None:
    told: list[str] = []

    async def push() -> None:
        async for step in site.transfers.push("127.0.0.1:1/a/b"):
            told.append(step.status)  # noqa: PERF401 - what was told before the error counts

    with pytest.raises(RegistryError, match=r"^open .*/127.0.0.1:1/a/b/latest: no such file"):
        await push()
    assert told == ["retrieving manifest", "couldn't retrieve manifest"]


async def test_what_is_no_name_is_told_in_ollama_s_words(site: Any) -> None:
    with pytest.raises(RegistryError, match=r"^unqualified name: a b$"):
        await site.push("a b")


async def test_a_model_with_a_missing_blob_is_not_pushed(
    lab: Any, registry: Any, site: Any
) -> None:
    name = f"{registry.authority}/lib/m"
    stored(lab, site, name, lab.manifest_of(CONFIG, DATA), CONFIG)
    with pytest.raises(RegistryError, match=r"^open .*: no such file or directory$"):
        await site.push(name)
    assert registry.manifests == {}
