"""Registries that cut, stall, fail, or give what is wrong."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral_kernel.errors import (
    CorralError,
    RegistryError,
    StoreError,
)
from corral_kernel.names import ModelName

CONFIG = b'{"model_format":"gguf","model_family":"llama"}'
BIG = os.urandom(1_000_000)  # sixteen parts of `QUICK`


def raises(words: str, kind: type[CorralError] = RegistryError) -> Any:
    return pytest.raises(kind, match=words)


def once(change: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Do something to the first request for each stretch of the large blob only."""
    done: set[Any] = set()

    def script(seen: Any, reply: Any) -> Any:
        if seen.span is None or len(reply.body) < 1000 or seen.span[1] in done:
            return None
        done.add(seen.span[1])
        return change(seen, reply)

    return script


async def test_a_connection_that_is_cut_is_gone_on_with(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)

    def cut(_seen: Any, reply: Any) -> Any:
        reply.cut = 30_000
        return reply

    registry.script = once(cut)
    await site.pull(name)

    assert site.store.blobs.path(lab.digest_of(BIG)).read_bytes() == BIG
    assert registry.sent[f"/v2/lib/m/blobs/{lab.digest_of(BIG)}"] == len(BIG)  # nothing twice


async def test_a_part_that_stalls_is_asked_for_anew_from_where_it_is(
    lab: Any, registry: Any, tmp_path: Path
) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    held: list[int] = []

    def stall(seen: Any, reply: Any) -> Any:
        if seen.span and len(reply.body) > 10_000 and len(held) < 4:
            held.append(seen.span[0])
            reply.hold = 10_000
        return reply

    registry.script = stall
    # Long enough that a busy machine does not pass for a stall.
    site = lab.Site(tmp_path / "home", msgspec.structs.replace(lab.QUICK, stall_s=3.0))
    await site.pull(name)

    assert site.store.blobs.path(lab.digest_of(BIG)).read_bytes() == BIG
    firsts = sorted(seen.span[0] for seen in registry.asked("GET", lab.digest_of(BIG)))
    parts = range(0, len(BIG), 1 << 16)
    assert firsts == sorted([*parts, *(part + 10_000 for part in held)])


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_registry_that_fails_for_a_while_is_asked_again(
    lab: Any, registry: Any, site: Any, status: int
) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    registry.script = once(lambda _seen, _reply: lab.Reply(status, {"Retry-After": "0"}, b"busy"))
    await site.pull(name)
    assert site.store.blobs.path(lab.digest_of(BIG)).read_bytes() == BIG


async def test_one_that_goes_on_failing_is_given_up_and_what_is_there_stays(
    lab: Any, registry: Any, site: Any
) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    digest = lab.digest_of(BIG)

    def fail(seen: Any, _reply: Any) -> Any:
        return lab.Reply(500, body=b"out of order") if (seen.span or (0,))[0] >= 500_000 else None

    registry.script = fail
    with raises("^max retries exceeded: 500: out of order$"):
        await site.pull(name)
    assert site.files() == {f"{lab.blob_file(digest)}.partial", f"{lab.blob_file(digest)}.parts"}
    got = registry.sent[f"/v2/lib/m/blobs/{digest}"]

    registry.script = None
    registry.seen.clear()
    await site.pull(name)
    assert registry.wanted_bytes(digest) <= len(BIG) - got + 4 * (1 << 16)  # what was under way
    assert site.store.blobs.path(digest).read_bytes() == BIG
    assert not {name for name in site.files() if ".part" in name}


async def test_wrong_bytes_are_never_stored(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    digest = lab.digest_of(BIG)

    def spoil(seen: Any, reply: Any) -> Any:
        if seen.span and seen.span[0] == 1 << 16:
            reply.body = bytes(len(reply.body))
        return reply

    registry.script = spoil
    with raises(f"^digest mismatch, file must be downloaded again: want {digest}, got sha256:"):
        await site.pull(name)
    assert site.files() == set()
    with pytest.raises(CorralError):
        site.store.find(ModelName.parse(name))

    registry.script = None
    await site.pull(name)
    assert site.store.blobs.path(digest).read_bytes() == BIG


@pytest.mark.parametrize("size", [len(BIG) - 1, len(BIG) + 1, 5])
async def test_a_layer_of_another_size_than_the_manifest_says_is_never_stored(
    lab: Any, registry: Any, site: Any, size: int
) -> None:
    lying = lab.layer(BIG) | {"size": size}
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, lying), CONFIG, BIG)
    with raises(f"has {len(BIG)} bytes there, where the manifest says {size}"):
        await site.pull(name)
    assert not {file for file in site.files() if not file.endswith((".partial", ".parts"))}


async def test_a_registry_without_ranges_gives_the_whole(
    lab: Any, registry: Any, site: Any
) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    registry.ranges = False
    await site.pull(name)
    assert site.store.blobs.path(lab.digest_of(BIG)).read_bytes() == BIG


async def test_a_blob_that_is_not_there_ends_the_pull(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG)
    with raises("^file does not exist$"):
        await site.pull(name)
    assert len(registry.asked("GET", lab.digest_of(BIG))) <= 4  # one for each stream


async def test_a_disk_without_room_is_told_before_anything_is_fetched(
    lab: Any, registry: Any, site: Any
) -> None:
    huge = {"mediaType": lab.WEIGHTS, "digest": f"sha256:{'a' * 64}", "size": 1 << 49}
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, huge), CONFIG)
    with raises(r"^not enough room: 5629\d+ bytes are to be fetched", StoreError):
        await site.pull(name)
    assert registry.asked("GET", "/blobs/") == []
