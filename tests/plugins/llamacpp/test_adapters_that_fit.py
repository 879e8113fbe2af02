"""The kernel takes just the adapters that llama.cpp takes, of the tiny chat model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from corral_kernel.contracts import FileRef
from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import GgufHeader, TensorInfo, check_adapter, read_header

Tensors = dict[str, tuple[int, ...]]

QUERY, DOWN, EMBEDDINGS = "blk.0.attn_q.weight", "blk.1.ffn_down.weight", "token_embd.weight"


def pair(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Tensors:
    """The two of one tensor, in numpy's order."""
    return {f"{name}.lora_a": a, f"{name}.lora_b": b}


FIT: dict[str, Tensors] = {
    "a square": pair(QUERY, (2, 64), (64, 2)),
    "an oblong": pair(DOWN, (3, 128), (64, 3)),
    "two": pair(QUERY, (2, 64), (64, 2)) | pair(DOWN, (3, 128), (64, 3)),
    "embeddings": pair(EMBEDDINGS, (259, 2), (64, 2)),
}
MISFITS: dict[str, tuple[Tensors, str]] = {
    "another width": (
        pair(QUERY, (2, 576), (576, 2)),
        (
            "it is for another model: it changes blk.0.attn_q.weight of 576 x 576, "
            "which is of 64 x 64 in this one"
        ),
    ),
    "turned": (
        pair(DOWN, (3, 64), (128, 3)),
        (
            "it is for another model: it changes blk.1.ffn_down.weight of 64 x 128, "
            "which is of 128 x 64 in this one"
        ),
    ),
    "one of them too wide": (
        pair(QUERY, (2, 64), (65, 2)),
        (
            "it is for another model: it changes blk.0.attn_q.weight of 64 x 65, "
            "which is of 64 x 64 in this one"
        ),
    ),
    "more layers": (
        pair("blk.2.attn_q.weight", (2, 64), (64, 2)),
        "it is for another model: it changes blk.2.attn_q.weight, which is not in this one",
    ),
    "two ranks": (
        pair(QUERY, (2, 64), (64, 3)),
        (
            "it is damaged: the matrices for blk.0.attn_q.weight, of 64 x 2 and 3 x 64, "
            "cannot be multiplied"
        ),
    ),
    "half a pair": (
        {f"{QUERY}.lora_b": (64, 2)},
        "it is damaged: blk.0.attn_q.weight.lora_a is missing",
    ),
    "embeddings as other tensors": (
        pair(EMBEDDINGS, (2, 64), (259, 2)),
        (
            "it is damaged: the matrices for token_embd.weight, of 64 x 2 and 2 x 259, "
            "cannot be multiplied"
        ),
    ),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Tensors], Path]:
    def write(tensors: Tensors) -> Path:
        path = tmp_path / "lora.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", 4.0)
        for name, shape in tensors.items():
            writer.add_tensor(name, np.ones(shape, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def admit(loop: Any, path: Path) -> None:
    file = FileRef(role="adapter", digest="one", size_bytes=1, path=str(path))
    assert loop.engine.admit(loop.job("hello", 2, adapters=(file,))) is not None


@pytest.mark.parametrize("tensors", FIT.values(), ids=FIT)
def test_an_adapter_that_fits_is_taken(
    greedy: Any, tiny_chat: Path, write: Callable[[Tensors], Path], tensors: Tensors
) -> None:
    path = write(tensors)
    check_adapter(read_header(path), read_header(tiny_chat).tensors)
    admit(greedy(tiny_chat, num_ctx=64), path)


@pytest.mark.parametrize(("tensors", "words"), MISFITS.values(), ids=MISFITS)
def test_one_that_does_not_is_refused(
    greedy: Any, tiny_chat: Path, write: Callable[[Tensors], Path], tensors: Tensors, words: str
) -> None:
    path = write(tensors)
    with pytest.raises(InvalidModelError) as caught:
        check_adapter(read_header(path), read_header(tiny_chat).tensors)
    assert str(caught.value) == words
    loop = greedy(tiny_chat, num_ctx=64)
    with pytest.raises(InvalidModelError, match="does not fit this model"):
        admit(loop, path)


def test_matrices_of_experts_are_to_be_as_many() -> None:
    def head(**shapes: tuple[int, ...]) -> GgufHeader:
        tensors = tuple(TensorInfo(f"x.{name}", shape, 0, 0) for name, shape in shapes.items())
        return GgufHeader(version=3, size_bytes=0, data_offset=0, metadata={}, tensors=tensors)

    weights = (TensorInfo("x", (64, 32, 4), 0, 0),)
    check_adapter(head(lora_a=(64, 2, 4), lora_b=(2, 32, 4)), weights)
    check_adapter(head(norm=(64,)), weights)
    for experts, words in ((3, "of 64 x 32 x 3, which is of 64 x 32 x 4"), (1, "of 64 x 32, ")):
        with pytest.raises(InvalidModelError, match=words):
            check_adapter(head(lora_a=(64, 2, experts), lora_b=(2, 32, experts)), weights)
