"""Several who pull the same, and those who leave."""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import (
    CorralError,
    RegistryError,
    ShuttingDownError,
)

CONFIG = b'{"model_format":"gguf","model_family":"llama"}'
BIG = os.urandom(1_000_000)  # sixteen parts of `QUICK`


def statuses(steps: list[Any]) -> list[str]:
    """What was told, each step once."""
    return list(dict.fromkeys(step.status for step in steps))


def raises(words: str, kind: type[CorralError] = RegistryError) -> Any:
    return pytest.raises(kind, match=words)


async def test_two_pulls_of_a_blob_are_one_download_and_both_are_told(
    lab: Any, registry: Any, site: Any
) -> None:
    first = registry.offer("lib/a", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    second = registry.offer("lib/b", lab.manifest_of(CONFIG, BIG, b"more"), b"more")
    held: list[Any] = []

    def hold(seen: Any, reply: Any) -> Any:
        if seen.span == (0, 65535) and not held:
            reply.hold = 1000
            held.append(reply)
        return reply

    registry.script = hold
    slow = lab.Manner(streams=4, part_bytes=1 << 16, stall_s=20.0)
    site.transfers._downloads._manner = slow
    one = asyncio.create_task(site.pull(first))
    async with aclosing(site.transfers.pull(second, insecure=True)) as steps:
        told = []
        async for step in steps:
            told.append(step)
            if step.completed:  # the second one is in
                held[0].gate.set()
    others = await one

    for seen in (told, others):
        assert statuses(seen)[-1] == "success"
        assert len([s for s in seen if s.digest == lab.digest_of(BIG)]) > 1
    whole = [registry.sent[f"/v2/lib/{m}/blobs/{lab.digest_of(BIG)}"] for m in "ab"]
    assert sorted(whole) == [0, len(BIG)]  # from the registry of whoever came first


async def test_who_leaves_a_shared_download_does_not_end_it_and_the_last_one_does(
    lab: Any, registry: Any, site: Any
) -> None:
    name = registry.offer("lib/a", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    held: list[Any] = []

    def hold(seen: Any, reply: Any) -> Any:
        if seen.span and len(reply.body) > 1000:
            reply.hold = 1000
            held.append(reply)
        return reply

    registry.script = hold
    site.transfers._downloads._manner = lab.Manner(streams=2, part_bytes=1 << 16)

    async def begin() -> Any:
        steps = site.transfers.pull(name, insecure=True)
        async for step in steps:
            if step.digest:
                return steps
        raise AssertionError

    first, second = await begin(), await begin()
    (running,) = site.transfers._downloads._running.values()
    await first.aclose()
    assert not running.task.done()
    await second.aclose()
    assert running.task.cancelled()
    assert site.transfers._downloads._running == {}

    registry.script = None
    for reply in held:
        reply.gate.set()
    await site.pull(name)
    assert site.store.blobs.path(lab.digest_of(BIG)).read_bytes() == BIG


async def test_closing_ends_what_is_under_way_and_says_so(
    lab: Any, registry: Any, site: Any
) -> None:
    name = registry.offer("lib/a", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)

    def hold(_seen: Any, reply: Any) -> Any:
        reply.hold = 1000 if len(reply.body) > 1000 else None
        return reply

    registry.script = hold
    site.transfers._downloads._manner = lab.Manner()

    async def pull() -> None:
        async for step in site.transfers.pull(name, insecure=True):
            if step.digest:
                await site.transfers.close()

    with raises("the server is shutting down", ShuttingDownError):
        await pull()
    assert site.transfers._downloads._running == {}


async def test_two_servers_that_fetch_the_same_blob_do_not_disturb_each_other(
    lab: Any, registry: Any, tmp_path: Path
) -> None:
    sites = [lab.Site(tmp_path / "home") for _ in range(2)]
    name = registry.offer("lib/a", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    await asyncio.gather(*(site.pull(name) for site in sites))
    assert sites[0].store.blobs.path(lab.digest_of(BIG)).read_bytes() == BIG
    assert registry.sent[f"/v2/lib/a/blobs/{lab.digest_of(BIG)}"] == len(BIG)
    assert not {file for file in sites[0].files() if ".part" in file}


async def test_all_who_wait_for_a_download_are_told_why_it_failed(
    lab: Any, registry: Any, site: Any
) -> None:
    names = [registry.offer(f"lib/{m}", lab.manifest_of(CONFIG, BIG), CONFIG, BIG) for m in "ab"]

    def spoil(_seen: Any, reply: Any) -> Any:
        reply.body = bytes(len(reply.body)) if len(reply.body) > 1000 else reply.body
        return reply

    registry.script = spoil
    outcomes = await asyncio.gather(*map(site.pull, names), return_exceptions=True)
    assert {str(outcome)[:15] for outcome in outcomes} == {"digest mismatch"}
    assert site.files() == set()
