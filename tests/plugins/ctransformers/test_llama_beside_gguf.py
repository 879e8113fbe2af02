"""A llama of 2023 beside the same weights as GGUF on llama.cpp."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp.llama_cpp as lib
import numpy as np
import pytest

NAMES = {
    "attention_norm": "attn_norm", "ffn_norm": "ffn_norm", "attention.wq": "attn_q",
    "attention.wk": "attn_k", "attention.wv": "attn_v", "attention.wo": "attn_output",
    "feed_forward.w1": "ffn_gate", "feed_forward.w2": "ffn_down", "feed_forward.w3": "ffn_up",
}  # fmt: skip
ENDS = {"tok_embeddings": "token_embd", "norm": "output_norm", "output": "output"}
PROMPT = [1, 35, 104, 260, 60, 12, 99, 200, 7]


def renamed(name: str) -> str:
    stem = name.removesuffix(".weight")
    if not stem.startswith("layers."):
        return f"{ENDS[stem]}.weight"
    _, number, part = stem.split(".", 2)
    return f"blk.{number}.{NAMES[part]}.weight"


def as_gguf(made: Any, path: Path, vocabulary: list[tuple[bytes, float]], middle: int) -> None:
    """Write the F32 tensors of a legacy file as GGUF."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(96)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(middle)
    writer.add_head_count(4)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(5e-6)  # which the library takes for every llama
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{i}>".encode() for i in range(len(vocabulary))])
    writer.add_token_scores([score for _, score in vocabulary])
    writer.add_token_types([1] * len(vocabulary))
    for (head, head_end), (start, end) in zip(made.heads, made.weights, strict=True):
        n_dims, _, _ = struct.unpack_from("<3i", made.data, head)
        shape = struct.unpack_from(f"<{n_dims}i", made.data, head + 12)
        name = made.data[head + 12 + 4 * n_dims : head_end].decode()
        values = np.frombuffer(made.data[start:end], np.float32).reshape(shape[::-1])
        writer.add_tensor(renamed(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def by_llama_cpp() -> Iterator[Callable[[Path, list[int]], np.ndarray]]:
    """The logits after some tokens."""
    silent = lib.llama_log_callback(lambda _level, _text, _data: None)
    lib.llama_log_set(silent, None)

    def logits(path: Path, ids: list[int]) -> np.ndarray:
        model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        assert model, "llama.cpp does not read the file that was made for it"
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_threads, params.n_threads_batch = 96, 1, 1
        context = lib.llama_init_from_model(model, params)
        tokens = (lib.llama_token * len(ids))(*ids)
        assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, len(ids))) == 0
        width = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        row = np.ctypeslib.as_array(lib.llama_get_logits(context), (width,)).copy()
        lib.llama_free(context)
        lib.llama_model_free(model)
        return row

    yield logits
    lib.llama_log_set(lib.llama_log_callback(0), None)


def test_a_llama_computes_what_llama_cpp_does(  # noqa: PLR0913, PLR0917 (fixtures)
    make: Callable[..., Any],
    tokens: Callable[[str], Any],
    written: Callable[..., Path],
    greedy: Callable[..., Any],
    tmp_path: Path,
    by_llama_cpp: Callable[[Path, list[int]], np.ndarray],
) -> None:
    made = make("llama", ftype=0)
    newer = tmp_path / "newer.gguf"
    as_gguf(made, newer, tokens("llama"), middle=96)
    loop = greedy(written("llama", made.data))
    loop.ids(PROMPT, 1)
    theirs = by_llama_cpp(newer, PROMPT)
    assert theirs.std() > 0.5
    np.testing.assert_allclose(loop.last_row, theirs, atol=2e-2)
