"""Files of before GGUF on ctransformers. Light: the library is imported when a worker loads one."""

from collections.abc import Sequence

from corral_ctransformers.claim import NAME, claim
from corral_ctransformers.options import GgmlOptions
from corral_kernel.contracts import Backend, Claim, Engine, LoadRequest
from corral_kernel.models import Model
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


@hookimpl
def corral_backends() -> Sequence[Backend]:
    return [
        Backend(
            name=NAME,
            options=GgmlOptions,
            docs="a reader for files of before GGUF: GGML of 2023, on the CPU, completion alone",
            library="ctransformers",
            extra="corral[ctransformers]",
        )
    ]


@hookimpl
def corral_claim(model: Model) -> Claim | None:
    return claim(model)


@hookimpl
def corral_load(request: LoadRequest) -> Engine:
    from corral_ctransformers.loading import load

    return load(request)
