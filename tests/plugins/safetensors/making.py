"""Tiny models with random weights, written as Hugging Face writes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]
Config = dict[str, Any]

VOCABULARY = 320
NUMPY = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "F64": np.dtype("<f8")}


def base(**more: Any) -> Config:
    return {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 256,
        "eos_token_id": 258,
        "tie_word_embeddings": False,
        **more,
    }


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
_LONG = {
    "type": "longrope",
    "long_factor": [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
    "short_factor": [1.0, 1.0, 1.1, 1.1, 1.2, 1.2, 1.3, 1.3],
}
_GEMMA = {
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "sliding_window": 8,
}
_LOCAL_LAYERS = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]

# By what is special of each: a config, made complete by `base`.
MODELS: dict[str, Config] = {
    "llama": base(model_type="llama", architectures=["LlamaForCausalLM"]),
    "llama with tied embeddings and heads of another size": base(
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        tie_word_embeddings=True,
        head_dim=32,
    ),
    "llama with biases": base(
        model_type="llama", architectures=["LlamaForCausalLM"], attention_bias=True, mlp_bias=True
    ),
    "llama 3's frequencies": base(
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        rope_theta=5e5,
        rope_scaling=LLAMA3,
    ),
    "llama with linear scaling, in the newer form": base(
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
    ),
    "mistral": base(
        model_type="mistral",
        architectures=["MistralForCausalLM"],
        rope_theta=1e6,
        num_key_value_heads=1,
        sliding_window=None,
    ),
    "qwen2": base(
        model_type="qwen2",
        architectures=["Qwen2ForCausalLM"],
        rope_theta=1e6,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
    ),
    "qwen2 with yarn": base(
        model_type="qwen2", architectures=["Qwen2ForCausalLM"], rope_theta=1e6, rope_scaling=YARN
    ),
    "qwen2 with yarn and a factor of attention": base(
        model_type="qwen2",
        architectures=["Qwen2ForCausalLM"],
        rope_theta=1e4,
        rope_scaling={**YARN, "attention_factor": 0.8},
    ),
    "qwen3": base(
        model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=32, rope_theta=1e6
    ),
    "smollm3": base(
        model_type="smollm3",
        architectures=["SmolLM3ForCausalLM"],
        num_hidden_layers=5,
        rope_theta=2e6,
        tie_word_embeddings=True,
        no_rope_layers=[1, 1, 1, 0, 1],
        no_rope_layer_interval=4,
    ),
    "phi3": base(model_type="phi3", architectures=["Phi3ForCausalLM"], sliding_window=2047),
    "phi3 with long texts": base(
        model_type="phi3",
        architectures=["Phi3ForCausalLM"],
        rope_scaling=_LONG,
        original_max_position_embeddings=16,
        max_position_embeddings=64,
    ),
    "phi4 with half of its heads rotated": base(
        model_type="phi3",
        architectures=["Phi3ForCausalLM"],
        partial_rotary_factor=0.5,
        tie_word_embeddings=True,
    ),
    "phi4 with half of its heads rotated, in the newer form": base(
        model_type="phi3",
        architectures=["Phi3ForCausalLM"],
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    ),
    "gemma": base(
        model_type="gemma",
        architectures=["GemmaForCausalLM"],
        head_dim=32,
        hidden_act="gelu",
        tie_word_embeddings=True,
    ),
    "gemma2": base(
        model_type="gemma2",
        architectures=["Gemma2ForCausalLM"],
        num_hidden_layers=4,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        **_GEMMA,
    ),
    "gemma3": base(
        model_type="gemma3_text",
        architectures=["Gemma3ForCausalLM"],
        num_hidden_layers=7,
        rope_theta=1e6,
        rope_local_base_freq=1e4,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
        **_GEMMA,
    ),
    "gemma3 with layers of its own choice, in the newer form": base(
        model_type="gemma3_text",
        architectures=["Gemma3ForCausalLM"],
        num_hidden_layers=4,
        layer_types=_LOCAL_LAYERS,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        },
        **_GEMMA,
    ),
}
BERTS: dict[str, Config] = {
    name: base(
        model_type=name,
        architectures=[architecture],
        layer_norm_eps=1e-12,
        type_vocab_size=2,
        hidden_act="gelu",
        pad_token_id=pad,
    )
    for name, architecture, pad in (
        ("bert", "BertModel", 0),
        ("roberta", "RobertaModel", 1),
        ("xlm-roberta", "XLMRobertaModel", 1),
    )
}


def shapes_of(config: Config) -> dict[str, tuple[int, ...]]:
    """The tensors of a decoder and their shapes."""
    kind, width, inner = config["model_type"], config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head = config.get("head_dim") or width // heads
    queries, keys = heads * head, kv_heads * head
    if kind == "phi3":
        matrices = {"self_attn.qkv_proj": (queries + 2 * keys, width)}
        matrices |= {"mlp.gate_up_proj": (2 * inner, width)}
    else:
        matrices = {
            "self_attn.q_proj": (queries, width),
            **dict.fromkeys(("self_attn.k_proj", "self_attn.v_proj"), (keys, width)),
            **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), (inner, width)),
        }
    matrices |= {"self_attn.o_proj": (width, queries), "mlp.down_proj": (width, inner)}
    layer = {f"{name}.weight": shape for name, shape in matrices.items()}
    biased = [*(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"] * (kind == "qwen2"))]
    biased += [name for name in matrices if config.get("attention_bias") and "attn" in name]
    biased += [name for name in matrices if config.get("mlp_bias") and "mlp" in name]
    layer |= {f"{name}.bias": matrices[name][:1] for name in biased}
    norms = ["input_layernorm", "post_attention_layernorm"]
    norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"] * kind.startswith(
        ("gemma2", "gemma3")
    )
    layer |= {f"{name}.weight": (width,) for name in norms}
    if kind in {"qwen3", "gemma3_text"}:
        layer |= {f"self_attn.{name}_norm.weight": (head,) for name in "qk"}
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for number in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return shapes


def bert_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The tensors of an encoder and their shapes."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
    }
    parts: dict[str, tuple[int, ...]] = {"embeddings.LayerNorm": (width,)}
    for number in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{number}"
        square = dict.fromkeys(("self.query", "self.key", "self.value", "output.dense"))
        parts |= {f"{at}.attention.{name}": (width, width) for name in square}
        parts |= {f"{at}.intermediate.dense": (inner, width), f"{at}.output.dense": (width, inner)}
        parts |= {f"{at}.{name}LayerNorm": (width,) for name in ("attention.output.", "output.")}
    for name, shape in parts.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def random_weights(shapes: dict[str, tuple[int, ...]], config: Config, seed: int = 7) -> Weights:
    """Numbers such that all parts of the model matter; norms are about what does nothing."""
    numbers = np.random.default_rng(seed)
    middle = 0.0 if config["model_type"].startswith("gemma") else 1.0
    weights = {}
    for name, shape in shapes.items():
        values = numbers.standard_normal(shape)
        if "norm" in name.lower() and name.endswith("weight"):
            values = middle + 0.3 * values
        elif "embed" in name or "lm_head" in name:
            values = 0.5 * values
        elif len(shape) > 1:
            values = 1.2 * values / np.sqrt(shape[1])
        else:
            values = 0.2 * values
        weights[name] = values.astype(np.float32)
    return weights


def encoded(values: np.ndarray, dtype: str) -> bytes:
    """Numbers as the format stores them; bfloat16 cuts the lower half off."""
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype(NUMPY[dtype]).tobytes()


def as_stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers that remain of them."""
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") & 0xFFFF0000).view("<f4")
    return values.astype(NUMPY[dtype]).astype(np.float32)


def write_safetensors(path: Path, tensors: Weights, dtype: str = "F32") -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blocks = []
    position = 0
    for name, values in tensors.items():
        data = encoded(values, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [position, position + len(data)],
        }
        blocks.append(data)
        position += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))


def write_sharded(folder: Path, tensors: Weights, count: int, dtype: str = "F32") -> None:
    """Several files, and the index that says which tensor is in which."""
    index = {}
    names = list(tensors)
    for number in range(count):
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = {name: tensors[name] for name in names[number::count]}
        write_safetensors(folder / file, part, dtype)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )


def byte_characters() -> dict[int, str]:
    """The characters that byte-level tokenizers write bytes as."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in kept}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(kept))
    return table


def special_tokens(first: int, *texts: str) -> list[Config]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": first + place, "content": text, "special": True, **flags}
        for place, text in enumerate(texts)
    ]


def byte_tokenizer() -> Config:
    """A tokenizer.json of bytes and three special tokens."""
    table = byte_characters()
    flags = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    byte_level = {"type": "ByteLevel", **flags}
    return {
        "version": "1.0",
        "added_tokens": special_tokens(256, "<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {table[byte]: byte for byte in range(256)},
            "merges": [],
        },
    }


TOKENIZER_CONFIG = {
    "tokenizer_class": "GPT2Tokenizer",
    "bos_token": "<|endoftext|>",
    "eos_token": "<|im_end|>",
    "add_bos_token": False,
    "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
}


def write_model(
    folder: Path, config: Config, weights: Weights, dtype: str = "F32", shards: int = 0
) -> Path:
    """A model's folder, with a tokenizer of bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    if shards:
        write_sharded(folder, weights, shards, dtype)
    else:
        write_safetensors(folder / "model.safetensors", weights, dtype)
    return folder
