"""Makes a small random Llama whose rows are wide enough for every type of quantization.

make(Path("wide.gguf"))     # some 700,000 weights in F16
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH = 256
INNER = 512
BYTES = 256
HEADS, KV_HEADS = 4, 2


def make(
    path: Path,
    *,
    dtype: type[np.floating] = np.float16,
    layers: int = 1,
    seed: int = 0,
    **split: Any,
) -> Path:
    """Write one.

    Args:
        path: Of the file.
        dtype: Of its matrices: float16 or float32.
        layers: That it has.
        seed: Another makes another model.
        split: How the writer is to split it, such as `split_max_tensors=3`.
    """
    writer = gguf.GGUFWriter(path, "llama", **split)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_file_type(1 if dtype is np.float16 else 0)
    _add_vocabulary(writer)
    _add_weights(writer, dtype, layers, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    special = ["<unk>", "<s>", "</s>"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *(f"<0x{byte:02X}>" for byte in range(BYTES))])
    writer.add_token_scores([0.0] * (len(special) + BYTES))
    writer.add_token_types([2, 3, 3] + [6] * BYTES)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _add_weights(
    writer: gguf.GGUFWriter, dtype: type[np.floating], layers: int, random: np.random.Generator
) -> None:
    def add(name: str, *shape: int) -> None:
        weights = (random.standard_normal(shape) * 0.05).astype(np.float32)
        writer.add_tensor(f"{name}.weight", weights if len(shape) == 1 else weights.astype(dtype))

    kv = WIDTH * KV_HEADS // HEADS
    add("token_embd", BYTES + 3, WIDTH)
    add("output_norm", WIDTH)
    add("output", BYTES + 3, WIDTH)
    for layer in range(layers):
        block = f"blk.{layer}"
        add(f"{block}.attn_norm", WIDTH)
        add(f"{block}.attn_q", WIDTH, WIDTH)
        add(f"{block}.attn_k", kv, WIDTH)
        add(f"{block}.attn_v", kv, WIDTH)
        add(f"{block}.attn_output", WIDTH, WIDTH)
        add(f"{block}.ffn_norm", WIDTH)
        add(f"{block}.ffn_gate", INNER, WIDTH)
        add(f"{block}.ffn_up", INNER, WIDTH)
        add(f"{block}.ffn_down", WIDTH, INNER)
