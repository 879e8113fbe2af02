"""Blobs that are elsewhere, and what does not go along."""

import os
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import (
    CorralError,
    RegistryError,
)

CONFIG = b'{"model_format":"gguf","model_family":"llama"}'
BIG = os.urandom(1_000_000)  # sixteen parts of `QUICK`


def raises(words: str, kind: type[CorralError] = RegistryError) -> Any:
    return pytest.raises(kind, match=words)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_is_followed_without_credentials(
    lab: Any, registry: Any, elsewhere: Any, tmp_path: Path, status: int
) -> None:
    site = lab.Site(tmp_path / "x", auth=f"{registry.authority}=me:secret")
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)
    elsewhere.blobs = {**registry.blobs}

    def script(seen: Any, reply: Any) -> Any:
        if "authorization" not in seen.headers:
            return lab.Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
        if "/blobs/" in seen.path:
            return lab.Reply(status, {"Location": f"{elsewhere.url}/far{seen.path}?signature=1"})
        return reply

    registry.script = script
    await site.pull(name)

    assert site.store.blobs.path(lab.digest_of(BIG)).read_bytes() == BIG
    assert elsewhere.seen
    assert not [seen for seen in elsewhere.seen if "authorization" in seen.headers]
    # Where a blob is was asked for by the first streams alone.
    assert len(registry.asked("GET", lab.digest_of(BIG))) < 16


async def test_redirects_without_end_are_given_up(lab: Any, registry: Any, site: Any) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)

    def script(seen: Any, reply: Any) -> Any:
        again = lab.Reply(307, {"Location": seen.path})
        return again if "/blobs/" in seen.path else reply

    registry.script = script
    with raises(r"^maximum redirects exceeded \(10\) for directURL$"):
        await site.pull(name)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", ""])
async def test_a_redirect_to_no_web_address_is_not_followed(
    lab: Any, registry: Any, site: Any, location: str
) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, BIG), CONFIG, BIG)

    def script(seen: Any, reply: Any) -> Any:
        away = lab.Reply(302, {"Location": location})
        return away if "/blobs/" in seen.path else reply

    registry.script = script
    with raises("points to|redirects to nowhere"):
        await site.pull(name)
