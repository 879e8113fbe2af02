"""Locked models of the Hub: made anew of its files, and only taken if they are the same."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import RegistryError
from corral_kernel.lockfile import LockedModel, dump, lock_models
from corral_kernel.names import ModelName

KILLED_AMID = """
import asyncio, os, signal, sys
from pathlib import Path
from corral_kernel.lockfile import parse
from corral_kernel.plugins import Plugins
from corral_kernel.store import Store, create_model
from corral_kernel.transfers import Maker, Transfers

home, lock = Path(sys.argv[1]), sys.argv[2]
store = Store(home / "models", home / "cache")
plugins = Plugins(only=("hub",))
publish = store.publish

def publish_and_die(name, raw):
    publish(name, raw)
    os.kill(os.getpid(), signal.SIGKILL)

store.publish = publish_and_die

async def make(request):
    for step in create_model(store, request):
        yield step

async def main():
    maker = Maker(make)
    args = (store, plugins.registry_for, home)
    transfers = Transfers(*args, address=plugins.address, maker=maker)
    for model in parse(lock).values():
        async for step in transfers.pull_locked(model):
            pass

asyncio.run(main())
"""
"""A server that is killed as soon as the model is there that is to be compared with the lock."""


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


async def test_a_kill_amid_making_it_anew_leaves_no_model_behind(
    hub: Any, site: Any, tiny: bytes, tmp_path: Path
) -> None:
    hub.offer("u/R-GGUF", files={"tiny-Q8_0.gguf": tiny}, system=b"Be brief.")
    await site.pull("hf://u/R-GGUF")
    name = ModelName.parse("hf.co/u/R-GGUF")
    lock = dump(lock_models(site.store, site.transfers.sources, [name]))
    shutil.rmtree(site.store.root)

    home = str(tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", KILLED_AMID, home, lock], check=False)  # noqa: ASYNC221 - the imitation has threads of its own

    assert done.returncode == -signal.SIGKILL
    (left,) = names(site)
    assert left.startswith("hf.co/u/R-GGUF:locked-")
    site.store.start_up()
    assert names(site) == []
