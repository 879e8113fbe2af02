"""Locked models of the Hub: made anew of its files, and only taken if they are the same."""

import shutil
from typing import Any

import pytest

from corral_kernel.errors import RegistryError
from corral_kernel.lockfile import LockedModel, lock_models
from corral_kernel.names import ModelName


async def locked(site: Any, name: str) -> LockedModel:
    (model,) = lock_models(site.store, site.transfers.sources, [ModelName.parse(name)])
    return model


def names(site: Any) -> list[str]:
    return [model.name.short for model in site.store.list_models()]


async def test_a_locked_model_is_made_anew_of_the_same_files(
    hub: Any, site: Any, tiny: bytes
) -> None:
    hub.offer("u/R-GGUF", files={"tiny-Q8_0.gguf": tiny}, system=b"Be brief.")
    await site.pull("hf://u/R-GGUF")
    model = await locked(site, "hf.co/u/R-GGUF")
    assert (model.source, model.registry) == ("hf://u/R-GGUF", "hub")
    shutil.rmtree(site.store.root)

    steps = [step.status async for step in site.transfers.pull_locked(model)]

    assert (steps.count("success"), steps[-1]) == (1, "success")
    assert names(site) == ["hf.co/u/R-GGUF:latest"]
    found, _ = site.store.find(model.name)
    assert f"sha256:{found.digest}" == model.manifest


async def test_what_is_made_of_other_files_is_not_taken(hub: Any, site: Any, tiny: bytes) -> None:
    hub.offer("u/R-GGUF", files={"tiny-Q8_0.gguf": tiny}, system=b"Be brief.")
    await site.pull("hf://u/R-GGUF")
    model = await locked(site, "hf.co/u/R-GGUF")
    hub.offer("u/R-GGUF", files={"tiny-Q8_0.gguf": tiny}, system=b"Be long.")
    await site.pull("hf://u/R-GGUF")

    with pytest.raises(RegistryError, match="cannot be had as it is locked: what is made of"):
        [step async for step in site.transfers.pull_locked(model)]

    assert names(site) == ["hf.co/u/R-GGUF:latest"]
    assert site.store.open(model.name).system == "Be long."
