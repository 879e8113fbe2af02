"""What docs/plugins/safetensors.md says to write."""

from pathlib import Path

from corral_kernel.modelfile import parse

NAME = "safetensors.md"
PAGE = Path(__file__).parents[3] / "docs" / "plugins" / NAME


def test_its_modelfile_is_one() -> None:
    (block,) = [b for b in PAGE.read_text().split("```") if b.startswith("\nFROM ")]
    assert list(parse(block.strip()).sources) == ["./my-model"]
