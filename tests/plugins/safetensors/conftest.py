"""Models made here, what they compute by definition, and what llama.cpp computes of them."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_safetensors.converting import convert
from corral_safetensors.source import ModelFiles
from corral_safetensors.tensors import OutType

HERE = Path(__file__).parent
TIMEOUT_S = 100


@pytest.fixture(scope="session")
def making(load_module: Callable[[Path, str], Any]) -> Any:
    """See `making.py`."""
    return load_module(HERE / "making.py", "safetensors_making")


@pytest.fixture(scope="session")
def reference(load_module: Callable[[Path, str], Any]) -> Any:
    """See `reference.py`."""
    return load_module(HERE / "reference.py", "safetensors_reference")


@pytest.fixture(scope="session")
def tokenizing(load_module: Callable[[Path, str], Any]) -> Any:
    """See `tokenizing.py`."""
    return load_module(HERE / "tokenizing.py", "safetensors_tokenizing")


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
