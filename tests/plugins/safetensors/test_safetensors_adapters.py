"""Adapters of PEFT, converted, change a model as their definition says."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest

from corral_kernel.errors import CorralError
from corral_safetensors.adapters import convert_adapter
from corral_safetensors.source import ModelFiles
from corral_safetensors.tensors import OutType

MODELS = Path(__file__).parents[2] / "models"
ZORBLAX = MODELS / "lora-zorblax-f16.gguf"
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
IDS = [256, *range(40, 60), 3, 200]
RANK = 4
PLAIN = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
INNER = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


class Adapted:
    """A model and an adapter for it, in folders."""

    def __init__(self, making: ModuleType, folder: Path, name: str) -> None:
        self.making = making
        self.folder = folder
        self.config = making.MODELS[name]
        shapes = making.shapes_of(self.config)
        self.weights = making.random_weights(shapes, self.config)
        self.model = making.write_model(folder / "model", self.config, self.weights)
        numbers = np.random.default_rng(11)
        fused = self.config["model_type"] == "phi3"
        parts = ("self_attn.qkv_proj", "mlp.gate_up_proj") if fused else (*PLAIN, *INNER)
        self.pairs = {}
        for layer in range(self.config["num_hidden_layers"]):
            for part in parts:
                name = f"model.layers.{layer}.{part}"
                rows, columns = shapes[f"{name}.weight"]
                down = numbers.standard_normal((RANK, columns)).astype(np.float32) / 8
                up = numbers.standard_normal((rows, RANK)).astype(np.float32) / 8
                self.pairs[name] = (down, up)

    def tensors(self) -> dict[str, np.ndarray]:
        found = {}
        for name, (down, up) in self.pairs.items():
            found[f"base_model.model.{name}.lora_A.weight"] = down
            found[f"base_model.model.{name}.lora_B.weight"] = up
        return found

    def write(self, **config: Any) -> Path:
        said = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6, **config}
        adapter = self.folder / "adapter"
        adapter.mkdir(exist_ok=True)
        (adapter / "adapter_config.json").write_text(json.dumps(said))
        self.making.write_safetensors(adapter / "adapter_model.safetensors", self.tensors())
        return adapter

    def merged(self, scale: float) -> dict[str, np.ndarray]:
        changed = dict(self.weights)
        for name, (down, up) in self.pairs.items():
            changed[f"{name}.weight"] = self.weights[f"{name}.weight"] + scale * (up @ down)
        return changed


def convert(folder: Path, base: Path | None, out_type: OutType | None = None) -> Path:
    out = folder.parent / "adapter.gguf"
    convert_adapter(ModelFiles.of_folder(folder), out, lambda *_: None, out_type, base)
    return out


@pytest.fixture
def adapted(making: ModuleType, tmp_path: Path) -> Callable[[str], Adapted]:
    return lambda name: Adapted(making, tmp_path, name)


@pytest.fixture
def base_and_adapter(
    adapted: Callable[[str], Adapted], converted: Callable[..., Path]
) -> Callable[..., tuple[Adapted, Path, Path]]:
    """A model and an adapter, both converted; the adapter for the model's file, or its config."""

    def make(name: str, *, beside: bool) -> tuple[Adapted, Path, Path]:
        model = adapted(name)
        base, folder = converted(model.model, "f32"), model.write()
        if beside:
            (folder / "config.json").write_text(json.dumps(model.config))
        return model, base, convert(folder, None if beside else base)

    return make


@pytest.mark.parametrize("name", ["llama", "qwen3", "phi3", "gemma2", "gemma3", "smollm3"])
@pytest.mark.parametrize("beside", [False, True], ids=["for a GGUF file", "beside a config.json"])
def test_an_adapter_adds_the_product_of_its_matrices(
    base_and_adapter: Callable[..., tuple[Adapted, Path, Path]],
    reference: ModuleType,
    llama_rows: Callable[..., np.ndarray],
    name: str,
    *,
    beside: bool,
) -> None:
    model, base, adapter = base_and_adapter(name, beside=beside)
    wanted = reference.Decoder(model.merged(6 / RANK), model.config).logits(IDS)
    plain = reference.Decoder(model.weights, model.config).logits(IDS)

    given = llama_rows(base, IDS, adapter=str(adapter))
    tolerance = 2e-2 if name.startswith("gemma") else 2e-3
    assert np.abs(given - wanted).max() < tolerance * max(1.0, wanted.std())
    assert np.abs(given - plain).max() > 0.3  # the adapter matters


def test_the_scale_of_rslora_goes_by_the_root_of_the_rank(
    adapted: Callable[[str], Adapted], converted: Callable[..., Path]
) -> None:
    model = adapted("llama")
    out = convert(model.write(use_rslora=True), converted(model.model))

    fields = gguf.GGUFReader(out).fields
    assert fields["adapter.lora.alpha"].contents() == pytest.approx(6 / RANK**0.5 * RANK)


def test_a_trained_adapter_becomes_the_file_that_was_made_of_it(
    making: ModuleType, tmp_path: Path
) -> None:
    given = {one.name: one.data for one in gguf.GGUFReader(ZORBLAX).tensors}
    source = tmp_path / "zorblax"
    source.mkdir()
    names = {".attn_output.weight": ".self_attn.o_proj", ".ffn_down.weight": ".mlp.down_proj"}
    tensors = {}
    for name, data in given.items():
        for new, old in {**names, "blk.": "base_model.model.model.layers."}.items():
            name = name.replace(new, old)  # noqa: PLW2901 - back, one part after the other
        name = name.replace(".lora_a", ".lora_A.weight").replace(".lora_b", ".lora_B.weight")  # noqa: PLW2901
        tensors[name] = data
    making.write_safetensors(source / "adapter_model.safetensors", tensors, "F16")
    said = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "fan_in_fan_out": False, "bias": "none"}
    (source / "adapter_config.json").write_text(json.dumps(said))
    (source / "config.json").write_text(json.dumps(SMOLLM2))

    made = gguf.GGUFReader(convert(source, None))
    found = {one.name: one.data for one in made.tensors}
    assert found.keys() == given.keys()
    for name, data in given.items():
        np.testing.assert_array_equal(found[name], data)
    fields = {name: one.contents() for name, one in made.fields.items()}
    wanted = gguf.GGUFReader(ZORBLAX).fields
    for name in wanted.keys() - {"GGUF.kv_count", "general.name"}:
        assert fields[name] == wanted[name].contents(), name


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "IA3"}, "adapters of type IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
        ({"lora_alpha": "six"}, "lora_alpha of adapter_config.json is 'six'"),
        ({"lora_alpha": None}, "says nothing of lora_alpha"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    adapted: Callable[[str], Adapted], config: dict[str, Any], said: str
) -> None:
    model = adapted("llama")
    folder = model.write(**config)
    (folder / "config.json").write_text(json.dumps(model.config))

    with pytest.raises(CorralError, match=said):
        convert(folder, None)

    assert not (folder.parent / "adapter.gguf").exists()


def without(pairs: dict[str, Any]) -> None:
    name = next(iter(pairs))
    pairs[name] = (pairs[name][0][:, :-1], pairs[name][1])


def other_ranks(pairs: dict[str, Any]) -> None:
    name = next(iter(pairs))
    pairs[name] = (pairs[name][0][:-1], pairs[name][1])


def on_a_norm(pairs: dict[str, Any]) -> None:
    pairs["model.layers.0.input_layernorm"] = next(iter(pairs.values()))


def on_no_layer(pairs: dict[str, Any]) -> None:
    pairs["model.layers.9.self_attn.q_proj"] = next(iter(pairs.values()))


def on_embeddings(pairs: dict[str, Any]) -> None:
    pairs["model.embed_tokens"] = next(iter(pairs.values()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without, "the adapter is for another model"),
        (other_ranks, "the adapter is for another model"),
        (on_a_norm, "belongs to no matrix that can be adapted"),
        (on_no_layer, "no place in a llama model of 2 layers"),
        (on_embeddings, "adapters of the embeddings are not converted"),
        (dict.clear, "the adapter has no tensors"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    adapted: Callable[[str], Adapted],
    converted: Callable[..., Path],
    change: Callable[[dict[str, Any]], None],
    said: str,
) -> None:
    model = adapted("llama")
    base = converted(model.model)
    change(model.pairs)

    with pytest.raises(CorralError, match=said):
        convert(model.write(), base)


def test_an_adapter_for_no_model_is_refused(adapted: Callable[[str], Adapted]) -> None:
    with pytest.raises(CorralError, match="no base model was found"):
        convert(adapted("llama").write(), None)


def test_one_matrix_of_two_is_refused(
    adapted: Callable[[str], Adapted], converted: Callable[..., Path], making: ModuleType
) -> None:
    model = adapted("llama")
    folder = model.write()
    tensors = model.tensors()
    tensors.popitem()
    making.write_safetensors(folder / "adapter_model.safetensors", tensors)

    with pytest.raises(CorralError, match="only one of two matrices"):
        convert(folder, converted(model.model))
