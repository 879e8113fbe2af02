"""Pulls from an imitated registry: what comes, what is told, what is kept when something fails."""

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from corral_api.root import API_LEVEL
from corral_kernel.errors import (
    CorralError,
    InvalidNameError,
    RegistryError,
    StoreError,
)
from corral_kernel.names import ModelName
from corral_kernel.transfers.partial import Partial

CONFIG = b'{"model_format":"gguf","model_family":"llama"}'
BIG = os.urandom(1_000_000)  # sixteen parts of `QUICK`


def statuses(steps: list[Any]) -> list[str]:
    """What was told, each step once."""
    return list(dict.fromkeys(step.status for step in steps))


def raises(words: str, kind: type[CorralError] = RegistryError) -> Any:
    return pytest.raises(kind, match=words)


async def test_a_model_comes_whole_with_the_manifest_s_own_bytes(
    lab: Any, registry: Any, site: Any
) -> None:
    raw = lab.manifest_of(CONFIG, BIG, lab.layer(b"MIT", "application/vnd.unknown"))
    name = registry.offer("lib/m:x", raw, CONFIG, BIG, b"MIT")

    steps = await site.pull(name)

    short = lab.digest_of(BIG)[7:19]
    assert statuses(steps) == [
        "pulling manifest",
        f"pulling {short}",
        f"pulling {lab.digest_of(b'MIT')[7:19]}",
        f"pulling {lab.digest_of(CONFIG)[7:19]}",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    last = [step for step in steps if step.status == f"pulling {short}"][-1]
    assert (last.digest, last.total, last.completed) == (lab.digest_of(BIG), len(BIG), len(BIG))
    stored, _ = site.store.find(ModelName.parse(name))
    assert stored.raw == raw
    assert site.store.blobs.path(lab.digest_of(BIG)).read_bytes() == BIG
    assert site.files() == {lab.blob_file(lab.digest_of(b)) for b in (BIG, b"MIT", CONFIG)}
    (asked,) = registry.asked("GET", "/manifests/")
    assert asked.headers["accept"] == lab.MANIFEST
    assert asked.headers["user-agent"].startswith(f"ollama/{API_LEVEL} (")
    assert registry.wanted_bytes(lab.digest_of(BIG)) == len(BIG)
    assert len(registry.asked("GET", lab.digest_of(BIG))) == 16


async def test_what_is_here_is_not_fetched_again(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m:x", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    await site.pull(name)
    registry.seen.clear()

    steps = await site.pull(name)

    assert [(s.status, s.completed) for s in steps[1:3]] == [
        (f"pulling {lab.digest_of(BIG)[7:19]}", len(BIG)),
        (f"pulling {lab.digest_of(CONFIG)[7:19]}", len(CONFIG)),
    ]
    assert [seen.path for seen in registry.seen] == ["/v2/lib/m/manifests/x"]


async def test_what_only_the_old_manifest_needed_goes(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m:x", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    await site.pull(name)
    registry.offer("lib/m:x", lab.manifest_of(CONFIG, b"new"), b"new")

    steps = await site.pull(name)

    assert statuses(steps)[-3:] == ["writing manifest", "removing unused layers", "success"]
    assert site.files() == {lab.blob_file(lab.digest_of(b)) for b in (b"new", CONFIG)}


async def test_an_empty_layer_is_a_file_too(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, b""), CONFIG, b"")
    await site.pull(name)
    assert site.store.blobs.size(lab.digest_of(b"")) == 0


@pytest.mark.parametrize("name", ["", "a b", "../x", "x:", "h/a/b/c:d", "x\0y", "é", "a/b/c/d"])
def test_what_is_no_name_is_refused_at_once(site: Any, name: str) -> None:
    with pytest.raises(InvalidNameError, match="invalid model name"):
        site.transfers.pull(name)


async def test_a_model_that_is_not_there_is_told_in_ollama_s_words(
    registry: Any, site: Any
) -> None:
    with raises(r"^pull model manifest: file does not exist$"):
        await site.pull(f"{registry.authority}/lib/m")


async def test_a_registry_that_is_not_there_is_told_by_its_address(site: Any) -> None:
    words = r'^pull model manifest: Get "http://127.0.0.1:1/v2/a/b/manifests/latest": dial tcp '
    with raises(words + r"127.0.0.1:1: connect: connection refused$"):
        await site.pull("127.0.0.1:1/a/b")


async def test_plain_http_is_only_spoken_when_asked_for(registry: Any, site: Any) -> None:
    with raises("server gave HTTP response to HTTPS client"):
        await site.pull(f"http://{registry.authority}/a/b", insecure=False)
    assert registry.seen == []


@pytest.mark.parametrize("status", [400, 412, 429, 500])
async def test_a_manifest_that_is_refused_is_told_with_the_registry_s_words(
    lab: Any, registry: Any, site: Any, status: int
) -> None:
    registry.script = lambda _seen, _reply: lab.Reply(status, body=b"too\nold")
    with raises(rf"^pull model manifest: {status}: too old$"):
        await site.pull(f"{registry.authority}/lib/m")
    assert len(registry.seen) == 1


async def test_a_partial_file_that_tells_nonsense_is_begun_anew(
    lab: Any, registry: Any, site: Any
) -> None:
    digest = lab.digest_of(BIG)
    folder = site.store.blobs.folder
    folder.mkdir(parents=True)
    (folder / f"{lab.blob_file(digest)}.parts").write_bytes(b"parts v1" + b"\xff" * 200)
    (folder / f"{lab.blob_file(digest)}.partial").write_bytes(b"\xff" * 100)
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    await site.pull(name)
    assert site.store.blobs.path(digest).read_bytes() == BIG


async def test_a_link_in_place_of_a_partial_file_is_not_followed(
    lab: Any, registry: Any, site: Any, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    folder = site.store.blobs.folder
    folder.mkdir(parents=True)
    (folder / f"{lab.blob_file(lab.digest_of(BIG))}.partial").symlink_to(victim)
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    with raises("opening sha256-", StoreError):
        await site.pull(name)
    assert victim.read_bytes() == b"mine"


async def test_a_damaged_blob_is_mended_by_a_pull(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    await site.pull(name)
    path = site.store.blobs.path(lab.digest_of(BIG))
    path.write_bytes(BIG[:-1])
    await site.pull(name)
    assert path.read_bytes() == BIG
    assert json.loads(site.store.find(ModelName.parse(name))[0].raw)["schemaVersion"] == 2


async def test_parts_of_a_blob_come_side_by_side(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    waiting: list[Any] = []

    def hold(seen: Any, reply: Any) -> Any:
        if len(reply.body) > 1000 and len(waiting) < lab.QUICK.streams:
            waiting.append(reply.gate)
            reply.hold = 0
            if len(waiting) == lab.QUICK.streams:  # none was answered, and all are here
                for gate in waiting:
                    gate.set()
        return reply

    registry.script = hold
    async with asyncio.timeout(lab.LIMIT_S):
        await site.pull(name)
    assert len(waiting) == lab.QUICK.streams
    assert site.store.blobs.path(lab.digest_of(BIG)).read_bytes() == BIG


async def test_a_blob_is_hashed_while_it_comes(
    lab: Any, registry: Any, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    last, hashed = threading.Event(), [0]
    before_the_end = 14 << 16  # all but the last two parts
    real = Partial.hash

    def hash_and_note(self: Any, hasher: Any, start: int, end: int) -> None:
        real(self, hasher, start, end)
        hashed[0] = max(hashed[0], end)
        if end >= before_the_end:
            last.set()

    def hold_the_last(seen: Any, reply: Any) -> Any:
        if seen.span and seen.span[1] == len(BIG) - 1:
            reply.hold, reply.gate = 0, last
        return reply

    monkeypatch.setattr(Partial, "hash", hash_and_note)
    registry.script = hold_the_last
    async with asyncio.timeout(lab.LIMIT_S):
        await site.pull(name)  # the last part comes only when what was before it is hashed
    assert hashed[0] == len(BIG)
