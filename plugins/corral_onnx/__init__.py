"""ONNX models on ONNX Runtime. Light: the libraries are imported when a worker loads a model."""

import os
from collections.abc import Sequence

from corral_kernel.contracts import Backend, Claim, Engine, LoadRequest, Quantizer
from corral_kernel.models import Model
from corral_kernel.plugins import hookimpl
from corral_onnx.claim import ENVIRONMENT, NAME, claim
from corral_onnx.options import OnnxOptions
from corral_onnx.quantizer import OnnxQuantizer

CORRAL_API_VERSION = 1


@hookimpl
def corral_backends() -> Sequence[Backend]:
    return [
        Backend(
            name=NAME,
            options=OnnxOptions,
            docs="folders of ONNX models: text by ONNX Runtime GenAI, LoRA, embeddings, scores",
            library="onnxruntime_genai",
            extra="corral[onnx]",
        )
    ]


@hookimpl
def corral_claim(model: Model) -> Claim | None:
    return claim(model)


@hookimpl
def corral_load(request: LoadRequest) -> Engine:
    os.environ.update(ENVIRONMENT)  # read when the libraries are imported, and never again
    from corral_onnx.loading import load

    return load(request)


@hookimpl
def corral_quantizers() -> Sequence[Quantizer]:
    return [OnnxQuantizer()]
