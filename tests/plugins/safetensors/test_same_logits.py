"""A converted model computes what its weights mean by the definition of their architecture."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

IDS = [256, *range(40, 75), 3, 200, 131, 77]
# llama.cpp looks GELU up in a table of float16; all else differs by the rounding of float32.
TOLERANCE = {"gemma": 2e-2, "gemma2": 2e-2, "gemma3": 2e-2, "gemma3_text": 2e-2}

# It rounds what it multiplies with matrices of 16 bits to 16 bits, too.
ROUNDED = {"bf16": 1e-1, "f16": 2e-2}


def chances(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


@pytest.fixture
def check(
    making: ModuleType,
    reference: ModuleType,
    converted: Callable[..., Path],
    llama_rows: Callable[..., np.ndarray],
    tmp_path: Path,
) -> Callable[..., None]:
    def compare(config: dict[str, Any], dtype: str = "F32", out: str = "f32", **more: Any) -> None:
        weights = making.random_weights(making.shapes_of(config), config)
        folder = making.write_model(tmp_path / "model", config, weights, dtype, **more)
        stored = {name: making.as_stored(one, dtype) for name, one in weights.items()}
        wanted = reference.Decoder(stored, config).logits(IDS)
        context = config["max_position_embeddings"]
        given = llama_rows(converted(folder, out), IDS, context=context)
        assert given.shape == wanted.shape
        scale = wanted.std()
        assert scale > 0.5  # the model says something
        tolerance = max(TOLERANCE.get(config["model_type"], 1e-3), ROUNDED.get(out, 0.0))
        assert np.abs(given - wanted).max() < tolerance * max(1.0, scale)
        assert np.abs(chances(given) - chances(wanted)).max() < tolerance

    return compare


NAMES = [
    "llama",
    "llama with tied embeddings and heads of another size",
    "llama with biases",
    "llama 3's frequencies",
    "llama with linear scaling, in the newer form",
    "mistral",
    "qwen2",
    "qwen2 with yarn",
    "qwen2 with yarn and a factor of attention",
    "qwen3",
    "smollm3",
    "phi3",
    "phi3 with long texts",
    "phi4 with half of its heads rotated",
    "phi4 with half of its heads rotated, in the newer form",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3 with layers of its own choice, in the newer form",
]


def test_each_model_that_is_made_here_is_compared(making: ModuleType) -> None:
    assert list(making.MODELS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_model_gives_the_logits_of_its_definition(
    check: Callable[..., None], making: ModuleType, name: str
) -> None:
    check(making.MODELS[name])


@pytest.mark.parametrize(
    ("dtype", "out"),
    [("BF16", "f32"), ("F16", "f32"), ("F64", "f32"), ("BF16", "bf16"), ("F16", "f16")],
)
def test_each_type_of_the_source_is_read_and_each_type_of_the_target_written(
    check: Callable[..., None], making: ModuleType, dtype: str, out: str
) -> None:
    check(making.MODELS["llama"], dtype, out)


def test_weights_in_several_files_are_put_together(
    check: Callable[..., None], making: ModuleType
) -> None:
    check(making.MODELS["llama"], shards=3)
