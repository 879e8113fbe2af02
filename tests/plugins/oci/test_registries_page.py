"""The page on registries: its plugin pulls, what it says of the numbers is so."""

import re
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.environment import Settings
from corral_kernel.errors import RegistryError
from corral_kernel.names import ModelName
from corral_kernel.store import Store
from corral_kernel.transfers import Manner, Transfers

PAGE = (Path(__file__).parents[3] / "docs" / "plugins" / "registries.md").read_text()


async def test_the_plugin_of_the_page_pulls_from_a_folder(lab: Any, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    page: dict[str, Any] = {"__name__": "share"}
    exec(compile(code, "registries.md", "exec"), page)
    page["FOLDER"] = tmp_path / "shared"
    data, config = lab.random_bytes(300_000), b"{}"
    shared = Store(page["FOLDER"], tmp_path / "cache")
    for blob in (data, config):
        shared.blobs.add(blob)
    raw = lab.manifest_of(config, data)
    shared.publish(ModelName.parse("share/team/model"), raw)
    (registry,) = page["corral_registries"]()
    assert registry.claim(ModelName.parse("model")) == 0.0

    store = Store(tmp_path / "models", tmp_path / "cache2")
    transfers = Transfers(store, lambda _name: registry, tmp_path, manner=lab.QUICK)
    steps = [step async for step in transfers.pull("share/team/model")]

    assert steps[-1].status == "success"
    assert store.find(ModelName.parse("share/team/model"))[0].raw == raw
    assert store.blobs.path(lab.digest_of(data)).read_bytes() == data
    with pytest.raises(RegistryError, match=r"^pull model manifest: file does not exist$"):
        [step async for step in transfers.pull("share/team/none")]
    with pytest.raises(RegistryError, match="the registry's plugin failed: NotImplementedError"):
        [step async for step in transfers.push("share/team/model")]


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    manner = Manner()
    assert f"parts of {manner.part_bytes >> 20} MiB, eight at once" in PAGE
    assert Settings.from_environ({}).max_transfer_streams == manner.streams == 8
    assert (manner.attempts, manner.stall_s) == (6, 30.0)
    assert "six times in a row" in PAGE
    assert "nothing for 30 seconds" in PAGE
