"""Vectors of texts, by a tiny encoder of random weights and, for meaning, by a real one."""

import asyncio
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_kernel.errors import MissingCapabilityError, PromptTooLongError, RemoteJobError

pytestmark = pytest.mark.asyncio(loop_scope="module")

WIDTH, LAYERS, POSITIONS = 32, 2, 64
WORDS = [f"w{number}" for number in range(40)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
MEAN, CLS, LAST = 1, 2, 3  # of llama.cpp's kinds of pooling


def weights() -> dict[str, np.ndarray]:
    """Of a BERT, by the names that sentence-transformers gives them."""
    dice = np.random.default_rng(3)

    def linear(name: str, out: int, into: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": dice.normal(0, 0.3, (out, into)), f"{name}.bias": np.zeros(out)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": np.ones(WIDTH), f"{name}.bias": np.zeros(WIDTH)}

    made = norm("embeddings.LayerNorm")
    for name, rows in (("word", len(VOCABULARY)), ("position", POSITIONS), ("token_type", 2)):
        made[f"embeddings.{name}_embeddings.weight"] = dice.normal(0, 1, (rows, WIDTH))
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            made |= linear(f"{at}.attention.self.{part}", WIDTH, WIDTH)
        made |= linear(f"{at}.attention.output.dense", WIDTH, WIDTH)
        made |= linear(f"{at}.intermediate.dense", 2 * WIDTH, WIDTH)
        made |= linear(f"{at}.output.dense", WIDTH, 2 * WIDTH)
        made |= norm(f"{at}.attention.output.LayerNorm") | norm(f"{at}.output.LayerNorm")
    return {name: tensor.astype("<f4") for name, tensor in made.items()}


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header, data = {}, b""
    for name, tensor in tensors.items():
        span = [len(data), len(data) + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": span}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def encoder(
    folder: Path, tensors: dict[str, np.ndarray], to_gguf: Callable[[Path, Path], None]
) -> bytes:
    config = {
        "architectures": ["BertModel"],
        "max_position_embeddings": POSITIONS,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "vocab_size": len(VOCABULARY),
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    write_safetensors(folder / "model.safetensors", tensors)
    to_gguf(folder, folder / "out.gguf")
    return (folder / "out.gguf").read_bytes()


@pytest.fixture(scope="module", autouse=True)
def _encoders(
    kernel: Any,
    with_value: Callable[..., bytes],
    to_gguf: Callable[[Path, Path], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """`vectors` means over its rows, `first` and `last` take one; `broken` gives no numbers."""
    data = encoder(tmp_path_factory.mktemp("bert"), weights(), to_gguf)
    kernel.create("vectors", data)
    kernel.create("first", with_value(data, "bert.pooling_type", "I", CLS))
    kernel.create("last", with_value(data, "bert.pooling_type", "I", LAST))
    broken = weights()
    broken["embeddings.word_embeddings.weight"][VOCABULARY.index("w7")] = np.nan
    kernel.create("broken", encoder(tmp_path_factory.mktemp("bert"), broken, to_gguf))


def text(*numbers: int) -> str:
    return " ".join(f"w{number}" for number in numbers)


def attention(rows: np.ndarray, tensors: dict[str, np.ndarray], at: str) -> np.ndarray:
    def linear(name: str, values: np.ndarray) -> np.ndarray:
        weight = tensors[f"{at}.{name}.weight"].astype(np.float16).astype(np.float64)
        return values @ weight.T + tensors[f"{at}.{name}.bias"]

    def norm(values: np.ndarray) -> np.ndarray:
        values = values - values.mean(axis=1, keepdims=True)
        return values / np.sqrt((values**2).mean(axis=1, keepdims=True) + 1e-12)

    heads = []
    query, key, value = (
        linear(f"attention.self.{part}", rows) for part in ("query", "key", "value")
    )
    for head in np.split(np.arange(WIDTH), 2):
        scores = query[:, head] @ key[:, head].T / np.sqrt(len(head))
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(chances / chances.sum(axis=1, keepdims=True) @ value[:, head])
    rows = norm(rows + linear("attention.output.dense", np.concatenate(heads, axis=1)))
    inner = linear("intermediate.dense", rows)
    inner = 0.5 * inner * (1 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))
    return norm(rows + linear("output.dense", inner))


def by_numpy(*numbers: int) -> np.ndarray:
    """Rows `(tokens, width)` of a text between its two marks."""
    tensors = weights()
    words = ["[CLS]", *(f"w{number}" for number in numbers), "[SEP]"]
    ids = [VOCABULARY.index(word) for word in words]
    table = tensors["embeddings.word_embeddings.weight"].astype(np.float16).astype(np.float64)
    rows = table[ids] + tensors["embeddings.position_embeddings.weight"][: len(ids)]
    rows = rows + tensors["embeddings.token_type_embeddings.weight"][0]
    rows = rows - rows.mean(axis=1, keepdims=True)
    rows = rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-12)
    for layer in range(LAYERS):
        rows = attention(rows, tensors, f"encoder.layer.{layer}")
    return rows


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("model", "pool"),
    [
        ("vectors", lambda rows: rows.mean(axis=0)),
        ("first", lambda r: r[0]),
        ("last", lambda r: r[-1]),
    ],
    ids=["mean", "first", "last"],
)
async def test_a_vector_is_the_models_own_pooling(
    kernel: Any, model: str, pool: Callable[[np.ndarray], np.ndarray]
) -> None:
    numbers = (3, 17, 3, 29)
    raw = await kernel.embed(model, text(*numbers), normalize=False)
    assert raw[0] == pytest.approx(pool(by_numpy(*numbers)), abs=0.02)
    scaled = await kernel.embed(model, text(*numbers))
    assert scaled[0] == pytest.approx(unit(raw[0]), abs=1e-6)
    assert np.linalg.norm(scaled[0]) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(raw[0]) > 1.5


async def test_a_list_gives_the_vectors_of_each_alone_in_order(kernel: Any) -> None:
    dice = np.random.default_rng(5)
    texts = [text(*dice.integers(0, 40, size=length)) for length in dice.integers(1, 60, size=150)]
    together = await kernel.embed("vectors", *texts)
    alone = np.concatenate([await kernel.embed("vectors", one) for one in texts])
    assert together.shape == (150, WIDTH)
    assert together == pytest.approx(alone, abs=1e-3)  # half precision: sums in another order
    assert len(np.unique(together.round(3), axis=0)) == len(set(texts))


async def test_requests_at_once_do_not_mix(kernel: Any) -> None:
    lists = [[text(a, b) for a in range(20)] for b in range(6)]
    at_once = await asyncio.gather(*(kernel.embed("vectors", *texts) for texts in lists))
    for texts, vectors in zip(lists, at_once, strict=True):
        assert vectors == pytest.approx(await kernel.embed("vectors", *texts), abs=1e-5)


@pytest.mark.parametrize(("dimensions", "width"), [(8, 8), (32, 32), (100, 32), (0, 32), (-4, 32)])
async def test_fewer_dimensions_are_cut_and_scaled_anew(
    kernel: Any, dimensions: int, width: int
) -> None:
    whole = await kernel.embed("vectors", text(1, 2))
    cut = await kernel.embed("vectors", text(1, 2), dimensions=dimensions)
    assert cut.shape == (1, width)
    assert cut == pytest.approx(unit(whole[:, :width]), abs=1e-6)


async def test_an_empty_text_has_a_vector_and_no_text_none(kernel: Any) -> None:
    assert (await kernel.embed("vectors", "")).shape == (1, WIDTH)
    assert (await kernel.embed("vectors", "", "")).shape == (2, WIDTH)
    assert (await kernel.embed("vectors")).size == 0


@pytest.mark.parametrize(("num_ctx", "words"), [(None, POSITIONS - 2), (16, 14), (4, 2)])
async def test_a_text_keeps_as_many_tokens_as_the_window_takes(
    kernel: Any, num_ctx: int | None, words: int
) -> None:
    numbers = [number % 40 for number in range(90)]
    options = {"num_ctx": num_ctx}
    fitting = await kernel.embed("vectors", text(*numbers[:words]), options=options, truncate=False)
    too_long = await kernel.embed("vectors", text(*numbers[: words + 1]), options=options)
    assert too_long == pytest.approx(fitting, abs=1e-6)
    longer = await kernel.embed("vectors", text(*numbers), text(1), options=options)
    assert longer[:1] == pytest.approx(fitting, abs=1e-5)
    with pytest.raises(RemoteJobError) as caught:
        await kernel.embed("vectors", text(*numbers[: words + 1]), options=options, truncate=False)
    assert caught.value.remote_code == PromptTooLongError.code
    assert str(caught.value) == "the input length exceeds the context length"


async def test_vectors_that_are_no_numbers_are_an_error_of_their_request_alone(
    kernel: Any,
) -> None:
    good = kernel.embed("broken", text(1))
    bad = kernel.embed("broken", text(1), text(7))
    vectors, error = await asyncio.gather(good, bad, return_exceptions=True)
    assert np.isfinite(vectors).all()
    assert (error.remote_code, str(error)) == (
        "engine",
        "embedding contains NaN or Inf values",
    )


async def test_tokens_are_counted_with_their_marks(kernel: Any) -> None:
    from corral_kernel.calls import EncodeCall

    model = await kernel.corral.find("vectors")
    call = EncodeCall(model=model, texts=(text(1, 2, 3), ""), options={"num_thread": 1})
    assert (await kernel.corral.encode(call)).prompt_tokens == 5 + 2


async def test_a_model_does_what_it_is_made_for_alone(kernel: Any) -> None:
    with pytest.raises(MissingCapabilityError):
        await kernel.embed("tiny", "one")
    with pytest.raises(MissingCapabilityError):
        await kernel.raw("vectors", "one")
