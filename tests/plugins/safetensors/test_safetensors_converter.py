"""The converter as the kernel sees it."""

from pathlib import Path
from typing import Any

import gguf
import pytest

from corral_kernel.contracts import Source, SourceFile
from corral_kernel.testing import ConverterSuite
from corral_kernel.testing.converters import Sample
from corral_safetensors.architectures import FAMILIES
from corral_safetensors.converter import SafetensorsConverter
from corral_safetensors.names import ARCHITECTURES, BASES

ADAPTER = {"kind": "adapter", "documents": {"adapter_config.json": {}}}
MODELS = Path(__file__).parents[2] / "models"


class TestSafetensorsConverter(ConverterSuite):
    converter = SafetensorsConverter()
    samples = (Sample(folder=MODELS / "tiny-chat-hf"),)


def test_the_names_that_the_server_knows_are_those_that_are_converted() -> None:
    assert FAMILIES.keys() == ARCHITECTURES
    assert {gguf.MODEL_ARCH_NAMES[family.arch] for family in FAMILIES.values()} == BASES


def source(**more: Any) -> Source:
    files = (SourceFile(name="model.safetensors", size_bytes=1000),)
    return Source(**{"kind": "model", "format": "safetensors", "files": files, **more})


@pytest.mark.parametrize(
    ("given", "offered"),
    [
        ({"documents": {"config.json": {"architectures": ["LlamaForCausalLM"]}}}, True),
        ({"documents": {"config.json": {"architectures": ["MambaForCausalLM"]}}}, False),
        ({"documents": {"config.json": {"architectures": "LlamaForCausalLM"}}}, False),
        ({"documents": {"config.json": ["LlamaForCausalLM"]}}, False),
        ({"documents": {}}, False),
        ({**ADAPTER, "architecture": "llama"}, True),
        ({**ADAPTER, "architecture": "mamba"}, False),
        ({"kind": "adapter", "architecture": "llama"}, False),
    ],
)
def test_it_offers_to_convert_what_it_knows(given: dict[str, Any], *, offered: bool) -> None:
    assert (SafetensorsConverter().offer(source(**given)) is not None) == offered
