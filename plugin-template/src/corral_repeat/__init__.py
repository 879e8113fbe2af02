"""A backend that repeats its prompt; the entry module, which Corral's server imports.

Keep it light: it is imported by every server, so what is needed to load a model is imported in
`corral_load`, which only ever runs in a worker.
"""

from collections.abc import Sequence

from corral_kernel.contracts import (
    Backend,
    Claim,
    Engine,
    LoadRequest,
    MemoryNeed,
)
from corral_kernel.models import Model
from corral_kernel.plugins import hookimpl

from corral_repeat.options import DEFAULT_CONTEXT_TOKENS, RepeatOptions

CORRAL_API_VERSION = 1
NAME = "repeat"
MEMORY_BYTES = 1 << 20


@hookimpl
def corral_backends() -> Sequence[Backend]:
    return [Backend(name=NAME, options=RepeatOptions, docs="repeats its prompt")]


@hookimpl
def corral_claim(model: Model) -> Claim | None:
    # `model.gguf` and `model.config` say what a model is; bid for those that yours can run.
    if model.is_remote:
        return None
    chosen = model.parameters.get("backend") == NAME
    return Claim(
        backend=NAME,
        # Any prompt can be repeated, but a backend that understands the model should win.
        confidence=1.0 if chosen else 0.01,
        why="the model asks for it" if chosen else "repeats any prompt",
        capabilities=("completion",),
        context_tokens=DEFAULT_CONTEXT_TOKENS,
        memory=MemoryNeed(base_bytes=MEMORY_BYTES),
    )


@hookimpl
def corral_load(request: LoadRequest) -> Engine:
    from corral_repeat.engine import load

    return load(request)
