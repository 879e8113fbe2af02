"""Models on other OpenAI-compatible servers. Light: HTTP is imported when a worker loads one."""

from collections.abc import Sequence

from corral_kernel.contracts import Backend, Claim, Engine, LoadRequest
from corral_kernel.models import Model
from corral_kernel.plugins import hookimpl
from corral_remote.claim import NAME, claim
from corral_remote.options import RemoteOptions

CORRAL_API_VERSION = 1


@hookimpl
def corral_backends() -> Sequence[Backend]:
    return [
        Backend(
            name=NAME,
            options=RemoteOptions,
            docs="models on other OpenAI-compatible servers: vLLM, SGLang, llama-server, Corral",
        )
    ]


@hookimpl
def corral_claim(model: Model) -> Claim | None:
    return claim(model)


@hookimpl
def corral_load(request: LoadRequest) -> Engine:
    from corral_remote.loading import load

    return load(request)
