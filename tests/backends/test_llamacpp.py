"""The contract of a backend, on llama.cpp with tiny models."""

import tempfile
from pathlib import Path
from typing import ClassVar, cast

import gguf
import numpy as np

from corral_kernel.contracts import Encoder, Engine, TokenEngine
from corral_kernel.testing import EncoderSuite, TokenEngineSuite, load_request
from corral_kernel.testing.backends import BackendSuite, EmbeddingBackendSuite, averaging
from corral_llamacpp import corral_load
from corral_llamacpp.options import LlamaOptions

MODELS = Path(__file__).parents[1] / "models"
BYTE_GPT2 = MODELS / "gpt2byte-f16.gguf"
TINY_CHAT = MODELS / "tiny-chat-f32.gguf"
# What llama.cpp rounds to 16 bits to be quick moves a logit by hundredths when tokens are computed
# together, which shows in near ties.
EXACT = {"CORRAL_KV_CACHE_TYPE": "f32", "CORRAL_FLASH_ATTENTION": "0"}
TOKENS = frozenset(
    {"completion", "counts", "raw", "sampler", "constraint", "seed", "logprobs", "window"}
    | {"prefix", "drafts", "adapters"}
)


def lora(model: Path) -> bytes:
    """Weights of rank 1 that change what a model says."""
    reader = gguf.GGUFReader(model)
    architecture = reader.fields["general.architecture"].contents()
    random = np.random.default_rng(3)
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        writer = gguf.GGUFWriter(file.name, architecture)
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", 1.0)
        for tensor in reader.tensors:
            if tensor.name.endswith("attn_output.weight"):
                taken, given = map(int, tensor.shape)
                for half, shape in (("a", (1, taken)), ("b", (given, 1))):
                    weights = random.normal(0, 1, shape).astype(np.float32)
                    writer.add_tensor(f"{tensor.name}.lora_{half}", weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return Path(file.name).read_bytes()


def opened(path: Path, slots: int, *capabilities: str) -> Engine:
    options = LlamaOptions(
        num_ctx=128, num_batch=64, num_thread=1, kv_cache_type="f32", flash_attention=False
    )
    return corral_load(load_request(options, path, slots=slots, capabilities=capabilities))


class TestTinyChatEngine(TokenEngineSuite):
    def engine(self, slots: int) -> TokenEngine:
        return cast(TokenEngine, opened(TINY_CHAT, slots, "completion"))


class TestByteGpt2Engine(TokenEngineSuite):
    def engine(self, slots: int) -> TokenEngine:
        return cast(TokenEngine, opened(BYTE_GPT2, slots, "completion"))


class TestTinyVectorsEngine(EncoderSuite):
    def engine(self) -> Encoder:
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            Path(file.name).write_bytes(averaging(TINY_CHAT.read_bytes()))
            return cast(Encoder, opened(Path(file.name), 4, "embedding"))


class TestTinyChat(BackendSuite):
    files: ClassVar = {"tiny-chat.gguf": TINY_CHAT}
    parameters: ClassVar = {"num_thread": 1}
    settings = EXACT
    can = TOKENS | {"chat"}
    adapter = lora(TINY_CHAT)
    prompts = ("who are you?", "count to five", "capital of Italy?")
    backend = "llamacpp"


class TestByteGpt2(BackendSuite):
    files: ClassVar = {"gpt2.gguf": BYTE_GPT2}
    parameters: ClassVar = {"num_thread": 1}
    settings = EXACT
    can = TOKENS | {"chat"}
    adapter = lora(BYTE_GPT2)
    prompts = ("one two", "Hello", "Q: capital of Italy?")
    backend = "llamacpp"


class TestTinyVectors(EmbeddingBackendSuite):
    files: ClassVar = {"pooled.gguf": averaging(TINY_CHAT.read_bytes())}
    parameters: ClassVar = {"num_thread": 1}
    backend = "llamacpp"
