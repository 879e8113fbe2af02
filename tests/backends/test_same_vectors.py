"""One encoder in the files of several backends: the vectors that its weights say."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

REFERENCE = Path(__file__).parents[1] / "models" / "minilm-reference.json"
QUANTIZE = """
import ctypes
import sys
import llama_cpp.llama_cpp as lib

params = lib.llama_model_quantize_default_params()
params.ftype = lib.LLAMA_FTYPE_MOSTLY_Q8_0
source, target = (path.encode() for path in sys.argv[1:])
sys.exit(lib.llama_model_quantize(source, target, ctypes.byref(params)))
"""

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def client(start_server: Callable[..., Any]) -> Any:
    with httpx.Client(base_url=start_server().url, timeout=60) as client:
        yield client


def create(client: httpx.Client, name: str, files: dict[str, Path]) -> None:
    digests = {}
    for inside, path in files.items():
        data = path.read_bytes()
        digests[inside] = f"sha256:{hashlib.sha256(data).hexdigest()}"
        client.post(f"/api/blobs/{digests[inside]}", content=data).raise_for_status()
    body = {"model": name, "files": digests, "stream": False}
    client.post("/api/create", json=body).raise_for_status()


@pytest.fixture
def forms(minilm: Path, minilm_onnx: Path, tmp_path: Path) -> dict[str, dict[str, Path]]:
    """The encoder's files, by form."""
    smaller = tmp_path / "q8.gguf"
    subprocess.run([sys.executable, "-c", QUANTIZE, minilm, smaller], check=True)
    assert smaller.stat().st_size < 0.7 * minilm.stat().st_size
    return {
        "f16": {"m.gguf": minilm},
        "q8_0": {"m.gguf": smaller},
        "int8-onnx": {f.relative_to(minilm_onnx).as_posix(): f for f in minilm_onnx.rglob("*.*")},
    }


@pytest.mark.parametrize(("form", "least"), [("f16", 0.999), ("q8_0", 0.998), ("int8-onnx", 0.998)])
def test_the_vectors_of_a_real_encoder_are_those_of_its_weights(
    client: httpx.Client, forms: dict[str, dict[str, Path]], form: str, least: float
) -> None:
    create(client, form, forms[form])
    record = json.loads(REFERENCE.read_text())
    body = {"model": form, "input": record["sentences"], "options": {"num_thread": 1}}
    answer = client.post("/api/embed", json={**body, "keep_alive": 0}).raise_for_status().json()
    found, wanted = np.array(answer["embeddings"]), np.array(record["vectors"])
    cosines = (found * wanted).sum(axis=1)
    assert found.shape == (6, 384)
    assert cosines.min() >= least, cosines
