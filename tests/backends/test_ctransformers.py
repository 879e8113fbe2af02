"""The contract of a backend, on ctransformers with a tiny model of before GGUF."""

from pathlib import Path
from typing import ClassVar, cast

from corral_ctransformers import corral_load
from corral_ctransformers.options import GgmlOptions
from corral_kernel.contracts import TokenEngine
from corral_kernel.testing import TokenEngineSuite, load_request
from corral_kernel.testing.backends import BackendSuite

BYTE_GPT2 = Path(__file__).parents[1] / "models" / "gpt2byte-f16.ggml.bin"


class TestByteGpt2Engine(TokenEngineSuite):
    def engine(self, slots: int) -> TokenEngine:
        options = GgmlOptions(num_ctx=128, num_batch=64, num_thread=1, model_type="gpt2")
        return cast(TokenEngine, corral_load(load_request(options, BYTE_GPT2, slots=slots)))


class TestByteGpt2(BackendSuite):
    files: ClassVar = {"gpt2.bin": BYTE_GPT2}
    parameters: ClassVar = {"num_thread": 1, "model_type": "gpt2"}
    can = frozenset(
        {"completion", "counts", "raw", "sampler", "constraint", "seed", "logprobs", "window"}
        | {"prefix"}
    )
    prompts = ("one two", "Hello", "Q: capital of Italy?")
    backend = "ctransformers"
