"""What a converted file holds: names, bits, metadata."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest

from corral_kernel.errors import CorralError
from corral_safetensors.converting import convert
from corral_safetensors.rope import rope_of
from corral_safetensors.settings import Settings
from corral_safetensors.source import ModelFiles

MODELS = Path(__file__).parents[2] / "models"
TINY_CHAT = MODELS / "tiny-chat-hf"


def keys(path: Path) -> dict[str, Any]:
    return {name: one.contents() for name, one in gguf.GGUFReader(path).fields.items()}


def tensors(path: Path) -> dict[str, Any]:
    return {one.name: one for one in gguf.GGUFReader(path).tensors}


@pytest.fixture
def folder(making: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, dtype: str = "F32", **changed: Any) -> Path:
        config = {**making.MODELS[name], **changed}
        weights = making.random_weights(making.shapes_of(config), config)
        return making.write_model(tmp_path / "model", config, weights, dtype)

    return make


@pytest.fixture
def refused(
    making: ModuleType, converted: Callable[..., Path], tmp_path: Path
) -> Callable[..., str]:
    """What is said of a model whose config says what its weights are not."""

    def say(name: str, changed: dict[str, Any]) -> str:
        config = making.MODELS[name]
        weights = making.random_weights(making.shapes_of(config), config)
        source = making.write_model(tmp_path / "model", {**config, **changed}, weights)
        with pytest.raises(CorralError) as caught:
            converted(source)
        assert not (tmp_path / "model.gguf").exists()
        return str(caught.value)

    return say


def test_a_trained_model_becomes_the_file_that_was_made_of_it(
    converted: Callable[..., Path], tmp_path: Path
) -> None:
    source = tmp_path / "hf-tiny"
    source.symlink_to(TINY_CHAT)
    made, given = converted(source, "f32"), MODELS / "tiny-chat-f32.gguf"

    ours, theirs = tensors(made), tensors(given)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].tensor_type == tensor.tensor_type
        np.testing.assert_array_equal(ours[name].data, tensor.data)
    said, wanted = keys(made), keys(given)
    for name in wanted.keys() - {"GGUF.kv_count", "general.name", "tokenizer.ggml.add_bos_token"}:
        assert said[name] == wanted[name], name


@pytest.mark.parametrize(
    ("stored", "asked", "written"),
    [
        ("BF16", None, "BF16"),
        ("F16", None, "F16"),
        ("F32", None, "F16"),
        ("F32", "f32", "F32"),
        ("F32", "bf16", "BF16"),
        ("BF16", "f16", "F16"),
    ],
)
def test_matrices_have_the_type_that_is_asked_for_and_vectors_float32(
    folder: Callable[..., Path],
    converted: Callable[..., Path],
    stored: str,
    asked: str | None,
    written: str,
) -> None:
    out = converted(folder("qwen2", stored), asked)

    kinds = {name: one.tensor_type.name for name, one in tensors(out).items()}
    assert kinds["token_embd.weight"] == kinds["blk.1.ffn_down.weight"] == written
    assert kinds["blk.0.attn_norm.weight"] == kinds["blk.0.attn_q.bias"] == "F32"
    files = {"F32": 0, "F16": 1, "BF16": 32}
    assert keys(out)["general.file_type"] == files[written]


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_numbers_of_the_same_type_keep_their_bits(
    folder: Callable[..., Path], converted: Callable[..., Path], making: ModuleType, dtype: str
) -> None:
    config = making.MODELS["qwen3"]
    weights = making.random_weights(making.shapes_of(config), config)
    out = converted(folder("qwen3", dtype))

    found = tensors(out)["blk.1.ffn_up.weight"].data.tobytes()
    assert found == making.encoded(weights["model.layers.1.mlp.up_proj.weight"], dtype)


def test_float32_is_rounded_to_bfloat16_and_not_cut(
    folder: Callable[..., Path], converted: Callable[..., Path], making: ModuleType
) -> None:
    config = making.MODELS["qwen3"]
    weights = making.random_weights(making.shapes_of(config), config)
    out = converted(folder("qwen3"), "bf16")

    raw = tensors(out)["blk.0.ffn_up.weight"].data.view("<u2").astype("<u4") << 16
    wanted = weights["model.layers.0.mlp.up_proj.weight"]
    np.testing.assert_allclose(raw.view("<f4").reshape(wanted.shape), wanted, rtol=2**-8)


def test_a_number_that_float16_cannot_hold_is_an_error_and_leaves_no_file(
    making: ModuleType, converted: Callable[..., Path], tmp_path: Path
) -> None:
    config = making.MODELS["llama"]
    weights = making.random_weights(making.shapes_of(config), config)
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = 1e6
    source = making.write_model(tmp_path / "model", config, weights)

    with pytest.raises(CorralError, match=r"layers\.1\.mlp\.up_proj.*beyond the range of float16"):
        converted(source, "f16")

    assert not (tmp_path / "model.gguf").exists()


def test_float32_that_float16_cannot_hold_becomes_bfloat16_if_no_type_is_asked_for(
    making: ModuleType, tmp_path: Path
) -> None:
    config = making.MODELS["llama"]
    weights = making.random_weights(making.shapes_of(config), config)
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = 1e6
    source = making.write_model(tmp_path / "model", config, weights)
    notes: list[str] = []
    told: list[tuple[int, int]] = []
    out = tmp_path / "out.gguf"
    convert(ModelFiles.of_folder(source), out, lambda *said: told.append(said), notes.append)

    assert keys(out)["general.file_type"] == 32
    assert notes[0].startswith("written as bfloat16: tensor model.layers.1.mlp.up_proj.weight")
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_tied_embeddings_are_written_once_even_if_the_source_has_them_twice(
    making: ModuleType, converted: Callable[..., Path], tmp_path: Path
) -> None:
    config = making.MODELS["qwen2"]
    weights = making.random_weights(making.shapes_of(config), config)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    out = converted(making.write_model(tmp_path / "model", config, weights))

    assert "output.weight" not in tensors(out)


def test_the_text_part_of_a_gemma_that_sees_is_converted_and_a_note_tells_of_the_rest(
    making: ModuleType,
    converted: Callable[..., Path],
    llama_rows: Callable[..., np.ndarray],
    tmp_path: Path,
) -> None:
    text = dict(making.MODELS["gemma3"])
    weights = making.random_weights(making.shapes_of(text), text)
    plain = converted(making.write_model(tmp_path / "plain", text, weights), "f32")
    nested = {f"language_model.{name}": one for name, one in weights.items()}
    nested["vision_tower.vision_model.embeddings.x.weight"] = np.ones((2, 2), np.float32)
    nested["multi_modal_projector.mm_input_projection_weight"] = np.ones((2, 2), np.float32)
    text.pop("architectures")
    whole = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    notes: list[str] = []
    seeing = making.write_model(tmp_path / "seeing", whole, nested)
    out = converted(seeing, "f32", notes)

    assert tensors(out).keys() == tensors(plain).keys()
    np.testing.assert_array_equal(llama_rows(out, [256, 5, 9]), llama_rows(plain, [256, 5, 9]))
    assert "images" in notes[0]


def test_what_llama_cpp_does_not_do_is_noted(
    folder: Callable[..., Path], converted: Callable[..., Path]
) -> None:
    notes: list[str] = []
    converted(folder("mistral", sliding_window=16), None, notes)

    (note,) = notes
    assert note.startswith("a sliding window of 16 tokens is left out: llama.cpp attends to all")


def test_the_advice_of_generation_config_goes_along(
    folder: Callable[..., Path], converted: Callable[..., Path]
) -> None:
    source = folder("llama")
    advice = {"temperature": 0.5, "top_k": 17, "top_p": 0.75, "eos_token_id": [1, 2]}
    (source / "generation_config.json").write_text(json.dumps(advice))

    said = keys(converted(source))
    assert said["general.sampling.temp"] == 0.5
    assert said["general.sampling.top_k"] == 17
    assert said["general.sampling.top_p"] == 0.75


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("llama", {"hidden_act": "relu"}, "unsupported activation 'relu'"),
        ("llama", {"architectures": ["MambaForCausalLM"]}, 'unsupported architecture "Mamba'),
        ("llama", {"architectures": []}, "unknown architecture"),
        ("llama", {"architectures": "x"}, "architectures of config.json is 'x'"),
        ("llama", {"hidden_size": "64"}, "hidden_size of config.json is '64'"),
        ("llama", {"hidden_size": True}, "hidden_size of config.json is True"),
        ("llama", {"num_hidden_layers": 10**9}, "a whole number from 1 to 1024"),
        ("llama", {"num_attention_heads": 5}, "do not go together"),
        ("llama", {"num_key_value_heads": 3}, "do not go together"),
        ("llama", {"head_dim": 15}, "cannot be rotated"),
        ("llama", {"rms_norm_eps": -1.0}, "rms_norm_eps of config.json is -1.0"),
        ("llama", {"vocab_size": 200}, "by config.json"),
        ("llama", {"hidden_size": 128}, r"to be \[320, 128\]"),
        ("llama", {"num_hidden_layers": 1}, "no place in a llama model of 1 layers"),
        ("llama", {"num_hidden_layers": 3}, "lacks 9 tensors"),
        ("llama", {"rope_scaling": {"type": "spiral"}}, "rope scaling 'spiral'"),
        ("llama", {"rope_scaling": {"type": "longrope"}}, "linear, llama3, yarn"),
        ("gemma2", {"rope_scaling": {"type": "llama3"}}, "default, dynamic, linear, yarn"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": 1.0}}, "mscale"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 8}}, "beta_fast"),
        ("llama", {"rope_scaling": [1]}, "rope_scaling of config.json"),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}, "quantized by gptq"),
        ("qwen2", {"head_dim": 32}, "no such model"),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 0, 1]}, "no_rope_layers"),
        ("gemma2", {"query_pre_attn_scalar": 100}, "query_pre_attn_scalar"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "only Gemma 2 has that"),
        ("gemma3", {"layer_types": ["full_attention"]}, "1 entries for 7 layers"),
        ("phi3", {"partial_rotary_factor": 1e9}, "16000000000 cannot be rotated"),
        ("phi3", {"partial_rotary_factor": 0.2}, "3 cannot be rotated"),
        ("llama", {"head_dim": 2**30}, "from 1 to 65536"),
        ("phi3 with long texts", {"partial_rotary_factor": 0.5}, "8 numbers"),
    ],
)
def test_a_config_that_cannot_be_or_that_llama_cpp_does_not_do_is_refused(
    refused: Callable[..., str], name: str, changed: dict[str, Any], said: str
) -> None:
    assert re.search(said, refused(name, changed))


def test_frequencies_of_llama_3_1_are_those_that_it_was_published_with() -> None:
    scaling = {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    }
    config = Settings({"rope_theta": 500_000.0, "rope_scaling": scaling})
    (made,) = rope_of(config, 128, 10_000.0).frequency_factors()

    assert made.name == "rope_freqs.weight"
    assert made.shape == (64,)
    assert made.numbers[0] == 1.0
    assert made.numbers[28] == 1.0
    assert 1.0 < made.numbers[29] < made.numbers[34] < 8.0
    assert made.numbers[63] == 8.0
