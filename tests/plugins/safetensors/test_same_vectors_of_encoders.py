"""Converted encoders give the vectors of their weights."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest

from corral_kernel.errors import CorralError

IDS = [5, 9, 211, 77, 13, 300, 1, 8]
TOLERANCE = 5e-3  # llama.cpp's GELU is another formula, from a table of float16
POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}


@pytest.fixture
def encoder(making: ModuleType, tmp_path: Path) -> Callable[..., tuple[Path, Any, Any]]:
    """A folder, its weights and its config."""

    def make(kind: str, prefix: str = "") -> tuple[Path, Any, Any]:
        config = making.BERTS[kind]
        weights = making.random_weights(making.bert_shapes(config), config)
        stored = {f"{prefix}{name}": one for name, one in weights.items()}
        stored[f"{prefix}pooler.dense.weight"] = np.ones((4, 4), np.float32)
        folder = making.write_model(tmp_path / "model", config, stored)
        return folder, weights, config

    return make


def add_pooling(folder: Path, **said: Any) -> None:
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [
        {"idx": place, "path": f"{place}_{kind}", "type": f"sentence_transformers.models.{kind}"}
        for place, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    "stored_as",
    [("bert", ""), ("bert", "bert."), ("roberta", "roberta."), ("xlm-roberta", "")],
)
def test_an_encoder_gives_the_rows_of_its_definition(
    encoder: Callable[..., Any],
    reference: ModuleType,
    converted: Callable[..., Path],
    llama_rows: Callable[..., np.ndarray],
    stored_as: tuple[str, str],
) -> None:
    folder, weights, config = encoder(*stored_as)
    wanted = reference.bert_rows(weights, config, IDS)

    given = llama_rows(converted(folder, "f32"), IDS, embeds=True)
    assert given.shape == wanted.shape
    assert np.abs(given - wanted).max() < TOLERANCE
    assert np.abs(given - wanted).mean() < TOLERANCE / 10


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, POOLING["mean"]),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, POOLING["cls"]),
        ({"pooling_mode_lasttoken": True}, POOLING["lasttoken"]),
        ({"pooling_mode": "cls"}, POOLING["cls"]),
    ],
)
def test_pooling_is_that_of_sentence_transformers(
    encoder: Callable[..., Any], converted: Callable[..., Path], said: Any, wanted: int
) -> None:
    folder, _, _ = encoder("bert")
    add_pooling(folder, **said)

    fields = gguf.GGUFReader(converted(folder)).fields
    assert fields["bert.pooling_type"].contents() == wanted
    assert fields["bert.attention.causal"].contents() is False


def test_without_its_files_pooling_is_the_mean(
    encoder: Callable[..., Any], converted: Callable[..., Path]
) -> None:
    folder, _, _ = encoder("bert")

    fields = gguf.GGUFReader(converted(folder)).fields
    assert fields["bert.pooling_type"].contents() == POOLING["mean"]


def test_decoders_that_make_vectors_have_a_pooling_too(
    making: ModuleType, converted: Callable[..., Path], tmp_path: Path
) -> None:
    config = making.MODELS["qwen3"]
    weights = making.random_weights(making.shapes_of(config), config)
    bare = {
        name.removeprefix("model."): one for name, one in weights.items() if "lm_head" not in name
    }
    changed = {**config, "architectures": ["Qwen3Model"], "tie_word_embeddings": True}
    folder = making.write_model(tmp_path / "model", changed, bare)
    add_pooling(folder, pooling_mode_lasttoken=True)

    fields = gguf.GGUFReader(converted(folder)).fields
    assert fields["qwen3.pooling_type"].contents() == POOLING["lasttoken"]


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([{"type": "sentence_transformers.models.Dense", "path": "2"}], "module Dense"),
        ([{"type": "sentence_transformers.models.Pooling", "path": "../x"}], "no file ../x/config"),
        ({"a": 1}, "modules.json is to be a list"),
        ([{"path": "1"}], "says nothing of type"),
    ],
)
def test_modules_that_are_not_converted_are_refused(
    encoder: Callable[..., Any], converted: Callable[..., Path], modules: Any, said: str
) -> None:
    folder, _, _ = encoder("bert")
    (folder / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(CorralError, match=said):
        converted(folder)


def test_a_pooling_that_llama_cpp_does_not_do_is_refused(
    encoder: Callable[..., Any], converted: Callable[..., Path]
) -> None:
    folder, _, _ = encoder("bert")
    add_pooling(folder, pooling_mode_max_tokens=True)

    with pytest.raises(CorralError, match="known are mean, cls and lasttoken"):
        converted(folder)
