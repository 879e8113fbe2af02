"""A conversion needs no more memory for a larger tensor."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import gguf
import pytest

CHILD = Path(__file__).with_name("converting_child.py")
MB = 1_000_000
WIDTH, INNER = 1024, 65_536
LARGEST = WIDTH * INNER * 4


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_memory_stays_below_one_and_a_half_of_the_largest_tensor_and_300_mb(
    making: ModuleType, tmp_path: Path
) -> None:
    config = making.base(
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=1,
        tie_word_embeddings=True,
    )
    folder = making.write_model(tmp_path / "model", config, {})
    header, position = {}, 0
    for name, shape in making.shapes_of(config).items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        offsets = [position, position + size]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        position += size
    text = json.dumps(header).encode()
    weights = folder / "model.safetensors"
    weights.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(weights, 8 + len(text) + position)  # zeros that take no room
    out = tmp_path / "out.gguf"

    child = subprocess.run(
        [sys.executable, CHILD, folder, out],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    assert LARGEST > 200 * MB
    assert int(child.stdout) < 1.5 * LARGEST + 300 * MB
    sizes = {one.name: int(one.n_bytes) for one in gguf.GGUFReader(out).tensors}
    assert sizes["blk.0.ffn_up.weight"] == LARGEST // 2
    out.unlink()
    sys.stderr.write(f"peak: {int(child.stdout) / MB:.0f} MB\n")
