"""GGUF models on llama.cpp. Light: the library is imported when a worker loads a model."""

from collections.abc import Sequence

from corral_kernel.contracts import Backend, Claim, Engine, LoadRequest, Quantizer
from corral_kernel.models import Model
from corral_kernel.plugins import hookimpl
from corral_llamacpp.claim import NAME, claim
from corral_llamacpp.options import LlamaOptions
from corral_llamacpp.quantizer import LlamaQuantizer

CORRAL_API_VERSION = 1


@hookimpl
def corral_backends() -> Sequence[Backend]:
    return [
        Backend(
            name=NAME,
            options=LlamaOptions,
            docs="GGUF models on llama.cpp: continuous batching, shared prefixes, LoRA, embeddings",
            library="llama_cpp",
            extra="corral[llamacpp]",
        )
    ]


@hookimpl
def corral_claim(model: Model) -> Claim | None:
    return claim(model)


@hookimpl
def corral_load(request: LoadRequest) -> Engine:
    from corral_llamacpp.loading import load

    return load(request)


@hookimpl
def corral_quantizers() -> Sequence[Quantizer]:
    return [LlamaQuantizer()]
