"""A backend that repeats its prompt; the entry module, which Corral's server imports.

Keep it light: it is imported by every server, so what it needs to load a model is imported in
`corral_load`, which only ever runs in a worker.
"""

from collections.abc import Sequence

from corral_echo.options import DEFAULT_CONTEXT_TOKENS, EchoOptions
from corral_kernel.contracts import Backend, Claim, Engine, LoadRequest, MemoryNeed
from corral_kernel.models import Model
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1
NAME = "echo"


@hookimpl
def corral_backends() -> Sequence[Backend]:
    return [Backend(name=NAME, options=EchoOptions, docs="repeats its prompt; for tests")]


@hookimpl
def corral_claim(model: Model) -> Claim | None:
    if model.is_remote:
        return None
    chosen = model.parameters.get("backend") == NAME
    size = model.parameters.get("echo_memory_bytes")
    return Claim(
        backend=NAME,
        # Anything can be echoed, but a backend that understands the model should win.
        confidence=1.0 if chosen else 0.01,
        why="the model asks for it" if chosen else "repeats any prompt",
        capabilities=("completion",),
        context_tokens=DEFAULT_CONTEXT_TOKENS,
        memory=MemoryNeed(base_bytes=max(0, size) if isinstance(size, int) else 0),
    )


@hookimpl
def corral_load(request: LoadRequest) -> Engine:
    from corral_echo.engine import load

    return load(request)
