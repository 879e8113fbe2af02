"""A backend that repeats its prompt, with faults on demand: what Corral's process tests run.

To begin a backend of your own, take `corral_repeat`: it is this one without the faults.
"""

from collections.abc import Sequence

import msgspec
from corral_kernel.contracts import (
    Backend,
    Claim,
    Engine,
    LoadRequest,
    MemoryNeed,
)
from corral_kernel.models import Model
from corral_kernel.plugins import hookimpl

import corral_repeat
from corral_echo.options import EchoOptions

CORRAL_API_VERSION = 1
NAME = "echo"


@hookimpl
def corral_backends() -> Sequence[Backend]:
    return [Backend(name=NAME, options=EchoOptions, docs="repeats its prompt; for tests")]


@hookimpl
def corral_claim(model: Model) -> Claim | None:
    claim = corral_repeat.corral_claim(model)
    if claim is None:
        return None
    chosen = model.parameters.get("backend") == NAME
    size = model.parameters.get("echo_memory_bytes")
    return msgspec.structs.replace(
        claim,
        backend=NAME,
        confidence=1.0 if chosen else 0.01,
        memory=MemoryNeed(base_bytes=max(0, size) if isinstance(size, int) else 0),
    )


@hookimpl
def corral_load(request: LoadRequest) -> Engine:
    from corral_echo.engine import load

    return load(request)
