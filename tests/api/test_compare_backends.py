"""`/api/compare` over two backends, and `corral compare --plot`, on a real server."""

import contextlib
import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MODELS = Path(__file__).parents[1] / "models"
SETTINGS = {
    "CORRAL_PLUGINS": "chat,llamacpp,onnx,ctransformers",
    # As exact as the others are.
    "CORRAL_KV_CACHE_TYPE": "f32",
    "CORRAL_FLASH_ATTENTION": "0",
}
PROMPTS = ["<|im_start|>user\nwho are you?<|im_end|>\n<|im_start|>assistant\n", "Hello"]
SVG = "{http://www.w3.org/2000/svg}"
PYTHON_BYTES = 16 << 20
"""Less than any worker has in RAM; the models are far smaller."""


class Forms:
    """A server with the same models in several forms."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=60)
        self.create("gguf", [MODELS / "tiny-chat-f32.gguf"])
        self.create("onnx", sorted((MODELS / "tiny-chat-onnx").iterdir()))
        self.create("int4", sorted((MODELS / "tiny-chat-onnx-int4").iterdir()))
        self.create("gpt2", [MODELS / "gpt2byte-f16.gguf"])
        self.create("ggml", [MODELS / "gpt2byte-f16.ggml.bin"], model_type="gpt2")

    def create(self, name: str, files: list[Path], **parameters: Any) -> None:
        body = {
            "model": name,
            "files": {file.name: self._blob(file.read_bytes()) for file in files},
            "parameters": {"num_thread": 1, **parameters},
            "stream": False,
        }
        self.client.post("/api/create", json=body).raise_for_status()

    def _blob(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        return digest

    def compare(self, a: str, b: str) -> dict[str, Any]:
        asked = {"prompts": PROMPTS, "max_tokens": 20, "stream": False}
        answer = self.client.post("/api/compare", json={"model_a": a, "model_b": b, **asked})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture(scope="module")
def forms(start_server: Callable[..., Any]) -> Iterator[Forms]:
    forms = Forms(start_server(**SETTINGS))
    with contextlib.closing(forms.client):
        yield forms


@pytest.mark.parametrize(
    ("pair", "backends", "most"),
    [
        (("gguf", "onnx"), ("llamacpp", "onnx"), 1e-6),
        (("onnx", "gguf"), ("onnx", "llamacpp"), 1e-6),
        (("gpt2", "ggml"), ("llamacpp", "ctransformers"), 1e-5),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, tuple) else "",
)
def test_the_same_weights_are_the_same_model_on_every_backend(
    forms: Forms, pair: tuple[str, str], backends: tuple[str, str], most: float
) -> None:
    result = forms.compare(*pair)
    assert (result["a"]["backend"], result["b"]["backend"]) == backends
    assert result["kl_reason"] == ""
    assert result["kl_max"] < most
    assert (result["agreement"], result["equal"]) == (1.0, len(PROMPTS))
    for prompt in result["prompts"]:
        assert prompt["same_prompt"] is True
        assert len(prompt["kl"]) == prompt["tokens"] > 0
        assert prompt["a"] == prompt["b"]


@pytest.mark.parametrize("exact", ["gguf", "onnx"])
def test_four_bits_are_apart_from_the_exact_weights_by_a_little(forms: Forms, exact: str) -> None:
    result = forms.compare(exact, "int4")
    assert result["b"]["backend"] == "onnx"
    assert result["kl_reason"] == ""
    assert 1e-4 < result["kl_mean"] < 1
    assert 0.5 < result["agreement"] <= 1
    assert all(prompt["same_prompt"] for prompt in result["prompts"])


def test_the_memory_of_both_is_measured_alike(forms: Forms) -> None:
    result = forms.compare("gguf", "onnx")
    small, large = sorted([result["a"]["memory"], result["b"]["memory"]])
    assert small > PYTHON_BYTES
    assert large < 4 * small  # both are a Python with libraries; the model is nothing beside them


def test_the_command_draws_a_curve_for_each_prompt(forms: Forms, tmp_path: Path) -> None:
    prompts, plot = tmp_path / "prompts.txt", tmp_path / "plot.svg"
    prompts.write_text("Hello\nwho are you?\n")
    flags = ["--prompts", str(prompts), "--max-tokens", "12", "--plot", str(plot)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    done = subprocess.run(
        [sys.executable, "-m", "corral_cli", "compare", "gguf", "int4", *flags],
        env=kept | {"CORRAL_HOST": forms.server.url, "CORRAL_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "answering B: int4:latest 2/2" in done.stderr
    table = done.stdout
    assert "llamacpp" in table
    assert "onnx" in table
    picture = ET.fromstring(plot.read_text("utf-8"))
    assert picture.tag == f"{SVG}svg"
    words = [text.text or "" for text in picture.iter(f"{SVG}text")]
    assert {"Hello", "who are you?"} <= set(words)
    (title,) = [word for word in words if "(A)" in word]
    assert title.startswith("gguf:latest, llamacpp, ")
    assert "int4:latest, onnx, " in title
    curves = [curve.get("points", "").split() for curve in picture.iter(f"{SVG}polyline")]
    assert len(curves) == 2
    assert all(len(points) >= 2 for points in curves)
