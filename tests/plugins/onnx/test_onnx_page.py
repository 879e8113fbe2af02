"""What docs/plugins/onnx.md says to write and to run."""

import importlib.metadata
from pathlib import Path

from corral_kernel.modelfile import parse

ROOT = Path(__file__).parents[3]
NAME = "onnx.md"
PAGE = (ROOT / "docs" / "plugins" / NAME).read_text()
BUILDER = "onnxruntime_genai/models/builder.py"


def test_its_modelfile_is_one() -> None:
    (block,) = [b for b in PAGE.split("```") if b.startswith("\nFROM ")]
    assert list(parse(block.strip()).sources) == ["./phi-4-mini-onnx"]


def test_its_command_has_options_that_the_builder_has() -> None:
    (command,) = [b for b in PAGE.split("```") if b.startswith("sh\npython -m")]
    words = command.split()
    assert words[3] == BUILDER.removesuffix(".py").replace("/", ".")
    files = importlib.metadata.files("onnxruntime-genai") or []
    (source,) = [file.read_text() for file in files if file.as_posix() == BUILDER]
    options = [word for word in words[4:] if word.startswith("-")]
    assert len(options) == 6
    assert [option for option in options if f'"{option}"' not in source] == []


def test_its_recipe_is_the_one_that_a_test_runs() -> None:
    assert "tests/recipes/build_onnx_smollm2.py" in PAGE
    assert (ROOT / "tests" / "recipes" / "build_onnx_smollm2.py").is_file()
    assert "build_onnx_smollm2" in (Path(__file__).parent / "test_onnx_smollm2.py").read_text()
