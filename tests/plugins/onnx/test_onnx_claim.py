"""Bids for folders, from the names and the small JSON files in them alone."""

import json
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from corral_kernel.models import FILE_TYPE, Model, ModelConfig, ModelFile
from corral_kernel.names import ModelName
from corral_onnx import corral_backends, corral_claim

KV_BYTES = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, numbers of a head, bytes of each


def model_of(
    sizes: dict[str, int], documents: dict[str, Any], config: ModelConfig | None = None
) -> Model:
    """A model as the store gives it: nothing of its files can be opened."""
    files = tuple(
        ModelFile(
            media_type=FILE_TYPE,
            digest=f"sha256:{number:064x}",
            size_bytes=size,
            path=Path("/nowhere") / name,
            name=name,
        )
        for number, (name, size) in enumerate(sizes.items())
    )
    return Model(
        name=ModelName.parse("a-folder"),
        digest="0" * 64,
        size_bytes=sum(sizes.values()),
        modified_ns=0,
        config=config or ModelConfig(model_format="onnx"),
        files=files,
        documents=documents,
    )


@pytest.fixture
def genai_documents(tiny_chat_onnx: Path) -> dict[str, Any]:
    name = "genai_config.json"
    return {name: json.loads((tiny_chat_onnx / name).read_text())}


GENAI_SIZES = {
    "genai_config.json": 1455,
    "model.onnx": 1 << 20,
    "model.onnx.data": 1 << 30,
    "tokenizer.json": 1 << 21,
}
ENCODER_SIZES = {"model.onnx": 1 << 24, "tokenizer.json": 1 << 20, "config.json": 9}


def test_a_genai_folder_completes_text(genai_documents: dict[str, Any]) -> None:
    claim = corral_claim(model_of(GENAI_SIZES, genai_documents))
    assert claim is not None
    assert (claim.backend, claim.capabilities) == ("onnx", ("completion",))
    assert claim.context_tokens == 256
    assert claim.memory.per_token_bytes == KV_BYTES
    assert (1 << 30) < claim.memory.base_bytes < (2 << 30)
    assert claim.environment == {"ORT_DISABLE_TELEMETRY": "1"}
    assert "llama" in claim.why


def test_parts_that_are_not_fed_are_named(genai_documents: dict[str, Any]) -> None:
    genai_documents["genai_config.json"]["model"]["vision"] = {"filename": "vision.onnx"}
    claim = corral_claim(model_of(GENAI_SIZES, genai_documents))
    assert claim is not None
    assert claim.capabilities == ("completion",)
    assert "images" in claim.why


@pytest.mark.parametrize(
    "more",
    [{"type": "whisper"}, {"encoder": {"filename": "e.onnx"}}, {"type": "phi3v"}],
    ids=["a type that encodes first", "an encoder", "a type of several parts"],
)
def test_a_type_that_is_not_run_is_bid_for_so_that_loading_can_tell(
    genai_documents: dict[str, Any], more: dict[str, Any]
) -> None:
    genai_documents["genai_config.json"]["model"].update(more)
    claim = corral_claim(model_of(GENAI_SIZES, genai_documents))
    assert claim is not None
    assert claim.why.endswith("of a kind that cannot be loaded")


def test_a_damaged_configuration_is_bid_for_so_that_loading_can_tell() -> None:
    claim = corral_claim(model_of(GENAI_SIZES, {"genai_config.json": {"model": 7}}))
    assert claim is not None
    assert claim.context_tokens == 0


@pytest.mark.parametrize(
    ("documents", "limit"),
    [
        ({}, 0),
        ({"config.json": {"max_position_embeddings": 512}}, 512),
        ({"config.json": {"max_position_embeddings": 514, "model_type": "roberta"}}, 512),
        (
            {
                "config.json": {"max_position_embeddings": 512},
                "sentence_bert_config.json": {"max_seq_length": 256},
                "tokenizer_config.json": {"model_max_length": 1e30},
            },
            256,
        ),
    ],
    ids=["untold", "positions", "positions of padding", "the least"],
)
def test_an_encoder_folder_makes_embeddings(documents: dict[str, Any], limit: int) -> None:
    claim = corral_claim(model_of(ENCODER_SIZES, documents))
    assert claim is not None
    assert claim.capabilities == ("embedding",)
    assert claim.context_tokens == limit
    assert claim.memory.base_bytes > 1 << 24


def test_a_cross_encoder_makes_no_embeddings() -> None:
    config = {"architectures": ["BertForSequenceClassification"]}
    claim = corral_claim(model_of(ENCODER_SIZES, {"config.json": config}))
    assert claim is not None
    assert claim.capabilities == ("rerank",)


@pytest.mark.parametrize(
    ("sizes", "config"),
    [
        ({}, ModelConfig(model_format="gguf")),
        ({"model.onnx": 1}, ModelConfig(model_format="onnx")),
        ({"one.onnx": 1, "two.onnx": 1, "tokenizer.json": 1}, ModelConfig(model_format="onnx")),
        ({"model.safetensors": 1, "tokenizer.json": 1}, ModelConfig(model_format="safetensors")),
        (GENAI_SIZES, ModelConfig(remote_host="https://host", remote_model="m")),
    ],
    ids=["no folder", "no tokenizer", "which graph?", "no graph", "elsewhere"],
)
def test_nothing_else_is_bid_for(sizes: dict[str, int], config: ModelConfig) -> None:
    assert corral_claim(model_of(sizes, {}, config)) is None


def test_the_backend_says_what_it_needs() -> None:
    (backend,) = corral_backends()
    assert (backend.name, backend.library) == ("onnx", "onnxruntime_genai")
    assert backend.extra == "corral[onnx]"


def test_the_server_half_imports_no_library() -> None:
    heavy = "{'onnxruntime', 'onnxruntime_genai', 'tokenizers'}"
    code = f"import corral_onnx, sys; assert not {heavy} & set(sys.modules)"
    run([sys.executable, "-c", code], check=True)
