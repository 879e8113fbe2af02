"""Manifests that lie: nothing of them is stored."""

import os
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


def nested(depth: int) -> bytes:
    return b'{"layers":[],"x":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"<html>", "the manifest is damaged"),
        (b"[]", "the manifest is damaged"),
        (b"{}", "names neither a config nor layers"),
        (b'{"manifests":[{"digest":"x"}]}', "names neither a config nor layers"),
        (nested(100_000), "nested too deeply"),
        (b" " * (5 << 20), "bytes long"),
        (b'{"layers":[{"digest":"","size":1}]}', "^lib/m: digest is empty$"),
        (b'{"layers":[{"digest":"sha256:../../x","size":1}]}', "^invalid digest format$"),
        (b'{"layers":[{"digest":"sha256-' + b"a" * 64 + b'","size":-1}]}', "a layer of -1 bytes"),
        (b'{"layers":[{"digest":"sha256:' + b"a" * 64 + b'","size":1e30}]}', "damaged"),
        (b'{"layers":[{"digest":7,"size":1}]}', "the manifest is damaged"),
        (b'{"layers":"x"}', "the manifest is damaged"),
    ],
    ids=[
        "html", "list", "empty", "index", "nested", "long", "no digest", "path", "negative",
        "huge", "number", "text",
    ],
)  # fmt: skip
async def test_a_manifest_that_is_none_is_refused(
    registry: Any, site: Any, raw: bytes, words: str
) -> None:
    name = registry.offer("lib/m", raw)
    with raises(words):
        await site.pull(name)
    assert site.files() == set()
    assert site.store.list_models() == []


async def test_a_manifest_bounds_its_layers_and_their_sizes(
    lab: Any, registry: Any, site: Any
) -> None:
    many = [{"mediaType": "x", "digest": f"sha256:{n:064x}", "size": 1} for n in range(5000)]
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, *many), CONFIG)
    with raises("over 4096 layers"):
        await site.pull(name)
    twice = [lab.layer(BIG), lab.layer(BIG) | {"size": 3}]
    registry.offer("lib/m", lab.manifest_of(CONFIG, *twice))
    with raises("two sizes"):
        await site.pull(name)
    huge = {"mediaType": "x", "digest": f"sha256:{'a' * 64}", "size": 1 << 51}
    registry.offer("lib/m", lab.manifest_of(CONFIG, huge))
    with raises("its layers have over"):
        await site.pull(name)


async def test_tensor_layers_are_refused_in_ollama_s_words(
    lab: Any, registry: Any, site: Any
) -> None:
    tensor = lab.layer(b"x", "application/vnd.ollama.image.tensor")
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, tensor), CONFIG)
    with raises("^this model requires MLX support, but the MLX runtime is not available$"):
        await site.pull(name)
