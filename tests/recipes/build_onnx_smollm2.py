"""Builds SmolLM2-135M-Instruct as an ONNX folder with weights of 4 bits, from its GGUF.

python tests/recipes/build_onnx_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf OUTPUT_FOLDER

The weights are written as Hugging Face keeps them, and turned into ONNX by the builder of ONNX
Runtime GenAI. That needs torch, so all of it happens in a virtual environment of its own, which is
removed afterwards: 1.3 GB on disk, a minute or two, 2 GB of memory. torch is installed alone; most
package indexes give a build for GPUs that does not run without some gigabytes more. Then say where
builds for the CPU are, by pip's own variable PIP_EXTRA_INDEX_URL.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TORCH = "torch==2.13.0"
OTHERS = (
    "gguf==0.19.0",
    "onnx",
    "onnx-ir",
    "onnxruntime-genai==0.18.0",
    "safetensors",
    "transformers==5.23.0",
    # what torch needs on a CPU
    "filelock",
    "fsspec",
    "jinja2",
    "networkx",
    "sympy",
    "typing-extensions",
)
BUILDER = "onnxruntime_genai.models.builder"
_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ALONE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_CONTROL = 3  # type of a token


def build(source: Path, target: Path) -> None:
    """Make the folder, in a virtual environment of its own."""
    with tempfile.TemporaryDirectory(prefix="build-onnx-") as scratch:
        python = Path(scratch, "venv", "bin", "python")
        run(sys.executable, "-m", "venv", Path(scratch, "venv"))
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        run(*pip, "--no-deps", TORCH)
        run(*pip, *OTHERS)
        run(python, "-c", "import torch")
        folder = Path(scratch, "hf")
        run(python, __file__, "--convert", source, folder)
        options = ("-p", "int4", "-e", "cpu", "-c", Path(scratch, "cache"))
        more = ("--extra_options", "hf_token=false")
        run(python, "-m", BUILDER, "-i", folder, "-o", target, *options, *more)


def run(*command: str | Path) -> None:
    """Run a program; what it prints is shown only if it fails."""
    quiet = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        sys.stderr.buffer.write(done.stdout[-5000:])
        sys.exit(f"failed with {done.returncode}: {' '.join(map(str, command))}")


# ---------------------------------------------------------- inside the virtual environment


def convert(source: Path, target: Path) -> None:
    """Write a llama GGUF as Hugging Face would keep it: weights, configuration, tokenizer."""
    from gguf import GGUFReader

    reader = GGUFReader(source)
    values = {name: field.contents() for name, field in reader.fields.items()}
    target.mkdir()
    weights = dict(_weights(reader, values))
    config = _config(values, tied="lm_head.weight" not in weights)
    from safetensors.numpy import save_file

    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    generation = {k: v for k, v in config.items() if k.endswith("_token_id")}
    template = values["tokenizer.chat_template"]
    (target / "chat_template.jinja").write_text(template)
    documents = {
        "config.json": config,
        "generation_config.json": generation,
        "tokenizer.json": _tokenizer(values),
        "tokenizer_config.json": _tokenizer_config(values, config) | {"chat_template": template},
    }
    for name, document in documents.items():
        (target / name).write_text(json.dumps(document, ensure_ascii=False))


def _weights(reader: Any, values: dict[str, Any]) -> Any:
    import numpy as np
    from gguf.quants import dequantize

    heads = {
        "attn_q": values["llama.attention.head_count"],
        "attn_k": values["llama.attention.head_count_kv"],
    }
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = _ALONE.get(tensor.name)
        if name is None:
            _, layer, part, _ = tensor.name.split(".", 3)
            name = f"model.layers.{layer}.{_NAMES[part]}.weight"
            if part in heads:  # llama.cpp keeps the two halves of each head woven together
                rows, columns = weight.shape
                woven = weight.reshape(heads[part], rows // heads[part] // 2, 2, columns)
                weight = woven.swapaxes(1, 2).reshape(rows, columns)
        yield name, np.ascontiguousarray(weight)


def _config(values: dict[str, Any], *, tied: bool) -> dict[str, Any]:
    heads, width = values["llama.attention.head_count"], values["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": values["llama.feed_forward_length"],
        "num_hidden_layers": values["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": values["llama.attention.head_count_kv"],
        "head_dim": width // heads,
        "hidden_act": "silu",
        "max_position_embeddings": values["llama.context_length"],
        "rms_norm_eps": 1e-5,
        "rope_theta": values["llama.rope.freq_base"],
        "tie_word_embeddings": tied,
        "vocab_size": len(values["tokenizer.ggml.tokens"]),
        "bos_token_id": values["tokenizer.ggml.bos_token_id"],
        "eos_token_id": values["tokenizer.ggml.eos_token_id"],
        "pad_token_id": values["tokenizer.ggml.padding_token_id"],
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
    }


def _added(values: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = zip(values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"], strict=True)
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": place, "content": text, **plain, "special": True}
        for place, (text, kind) in enumerate(kinds)
        if kind == _CONTROL
    ]


def _tokenizer(values: dict[str, Any]) -> dict[str, Any]:
    tokens, merges = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.merges"]
    by_bytes = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    split = [
        {"type": "Digits", "individual_digits": True},
        {**by_bytes, "add_prefix_space": False},
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(values),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": split},
        "post_processor": None,
        "decoder": {**by_bytes, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: place for place, text in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def _tokenizer_config(values: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    tokens = values["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "bos_token": tokens[config["bos_token_id"]],
        "eos_token": tokens[config["eos_token_id"]],
        "pad_token": tokens[config["pad_token_id"]],
        "unk_token": tokens[values["tokenizer.ggml.unknown_token_id"]],
        "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {str(token.pop("id")): token for token in _added(values)},
    }


if __name__ == "__main__":
    if sys.argv[1] == "--convert":
        convert(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        build(Path(sys.argv[1]), Path(sys.argv[2]))
