"""What the server is told of a legacy file from its first bytes, and what it imports for that."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_ctransformers.claim import claim
from corral_ctransformers.layouts import LAYOUTS
from corral_kernel.models import WEIGHTS_TYPE, Model, ModelConfig, ModelFile
from corral_kernel.names import ModelName


def model(head: bytes, *, model_format: str = "ggml", size: int = 10**6, **more: Any) -> Model:
    weights = ModelFile(
        media_type=WEIGHTS_TYPE, digest="sha256:" + "0" * 64, size_bytes=size, path=Path("x")
    )
    return Model(
        name=ModelName.parse("old"),
        digest="0" * 64,
        size_bytes=size,
        modified_ns=0,
        config=ModelConfig(model_format=model_format),
        files=(weights,),
        head=head[:64],
        **more,
    )


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_a_file_whose_architecture_is_given_is_claimed_with_its_context(
    architecture: str, make: Callable[..., Any]
) -> None:
    made = make(architecture)
    bid = claim(model(made.data, parameters={"model_type": architecture}))
    assert bid is not None
    assert bid.why == f"a legacy GGML file of architecture {architecture}"
    assert bid.context_tokens == (2048 if architecture in ("llama", "falcon") else 96)
    assert bid.capabilities == ("completion",)
    assert bid.slots == 1
    assert bid.environment["HF_HUB_OFFLINE"] == "1"
    assert bid.memory.total_bytes(96, 1) > 10**6 + 2 * 2 * 32 * 96 * 2


def test_memory_counts_what_the_file_makes_the_library_allocate(make: Callable[..., Any]) -> None:
    small, large = (
        claim(model(make("gptj", n_ctx=n).data, parameters={"model_type": "gptj"}))
        for n in (96, 9600)
    )
    assert small is not None
    assert large is not None
    more = large.memory.base_bytes - small.memory.base_bytes
    assert more == 2 * 2 * 32 * 2 * (9600 - 96)
    llama = claim(model(make("llama").data))
    assert llama is not None
    assert llama.memory.per_token_bytes == 2 * 2 * 32 * 2


def test_what_the_file_tells_needs_no_parameter(make: Callable[..., Any]) -> None:
    llama, falcon = claim(model(make("llama").data)), claim(model(make("falcon").data))
    assert llama is not None
    assert falcon is not None
    assert (llama.context_tokens, falcon.context_tokens) == (2048, 2048)


def test_what_it_does_not_tell_is_left_open(make: Callable[..., Any]) -> None:
    for parameters in ({}, {"model_type": "gpt5"}, {"model_type": 7}):
        bid = claim(model(make("gpt2").data, parameters=parameters))
        assert bid is not None
        assert bid.why == "a legacy GGML file that tells no architecture" or parameters
        assert bid.context_tokens == 0


@pytest.mark.parametrize(
    ("head", "model_format"),
    [(b"GGUF" + bytes(60), "gguf"), (b"GGUF" + bytes(60), "ggml"), (b"", "ggml"), (b"", "onnx")],
)
def test_other_models_get_no_bid(head: bytes, model_format: str) -> None:
    assert claim(model(head, model_format=model_format)) is None


def test_a_damaged_head_gets_a_bid_whose_load_will_tell() -> None:
    for fill in (b"\xff", b"\x7f", b"\0"):
        for name in LAYOUTS:
            for magic in LAYOUTS[name].magics:
                bid = claim(model(magic + fill * 60, parameters={"model_type": name}))
                assert bid is not None
                assert 0 <= bid.memory.total_bytes(max(bid.context_tokens, 1), 1) < 1 << 80
    assert claim(model(b"lmgg")) is not None
    assert claim(model(b"tjgg")) is not None


def test_the_entry_module_imports_no_library() -> None:
    program = (
        "import sys, corral_ctransformers as plugin; plugin.corral_backends(); "
        "heavy = {'ctransformers', 'huggingface_hub', 'cpuinfo', 'corral_ctransformers.walk'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_backend_declares_its_option() -> None:
    from corral_ctransformers import corral_backends

    (backend,) = corral_backends()
    assert (backend.name, backend.library) == ("ctransformers", "ctransformers")
    assert backend.extra == "corral[ctransformers]"
    assert "model_type" in backend.options.__struct_fields__
