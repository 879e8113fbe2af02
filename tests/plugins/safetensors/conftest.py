"""Models made here, what they compute by definition, and what llama.cpp computes of them."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from corral_safetensors.converting import convert
from corral_safetensors.source import ModelFiles
from corral_safetensors.tensors import OutType

HERE = Path(__file__).parent
TIMEOUT_S = 100


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"safetensors_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="session")
def making() -> ModuleType:
    """See `making.py`."""
    return module("making")


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """See `reference.py`."""
    return module("reference")


@pytest.fixture(scope="session")
def tokenizing() -> ModuleType:
    """See `tokenizing.py`."""
    return module("tokenizing")


@pytest.fixture(scope="session")
def converted() -> Callable[..., Path]:
    """Converts a folder; the notes go to `notes`."""

    def convert_folder(
        folder: Path, out_type: str | None = None, notes: list[str] | None = None
    ) -> Path:
        out = folder.parent / f"{folder.name}.gguf"
        note = (notes if notes is not None else []).append
        kind = OutType(out_type) if out_type else None
        convert(ModelFiles.of_folder(folder), out, lambda *_: None, note, kind)
        return out

    return convert_folder


@pytest.fixture(scope="session")
def llama() -> Callable[..., Any]:
    """Runs llama.cpp in a process of its own, see `llama_child.py`."""

    def run(gguf: Path, **asked: Any) -> Any:
        child = subprocess.run(
            [sys.executable, HERE / "llama_child.py"],
            input=json.dumps({"gguf": str(gguf), **asked}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert child.returncode == 0, child.stderr[-2000:]
        return json.loads(child.stdout)

    return run


@pytest.fixture(scope="session")
def llama_rows(llama: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The logits, or with `embeds` the vectors, that llama.cpp gives for each of some tokens."""

    def rows(gguf: Path, ids: Sequence[int], **asked: Any) -> np.ndarray:
        return np.array(llama(gguf, ids=[list(ids)], **asked)["rows"][0])

    return rows
