"""What this backend says of a legacy GGML file from its first bytes alone."""

from corral_ctransformers.layouts import (
    VERSIONS,
    Layout,
    find_layout,
    head_fields,
    limits,
    told_by,
)
from corral_kernel.contracts import Claim, MemoryNeed
from corral_kernel.models import Model

NAME = "ctransformers"

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
"""The library imports huggingface_hub, which is to ask no server for anything."""

_BUFFER_BYTES = 256 << 20  # of intermediate results; touched as far as a step needs it


def claim(model: Model) -> Claim | None:
    """Bid for a model whose weights are one file of before GGUF."""
    weights, magic = model.weights, model.head[:4]
    if weights is None or model.is_remote or model.format != "ggml" or magic not in VERSIONS:
        return None
    asked = model.parameters.get("model_type")
    layout = find_layout(asked) if isinstance(asked, str) and asked else told_by(magic)
    fields = head_fields(model.head, layout) if layout else {}
    sized = layout is not None and _is_sound(layout, fields)
    words = f"of architecture {layout.name}" if layout else "that tells no architecture"
    return Claim(
        backend=NAME,
        confidence=0.9,
        why=f"a legacy GGML file {words}",
        capabilities=("completion",),
        context_tokens=context_tokens(layout, fields) if layout and sized else 0,
        memory=_memory(layout if sized else None, fields, weights.size_bytes),
        slots=1,
        environment=ENVIRONMENT,
    )


def _is_sound(layout: Layout, fields: dict[str, int]) -> bool:
    """Whether sizes can be told from a head; of a damaged one the load will tell."""
    bounds = ((limits(layout, name), value) for name, value in fields.items())
    return bool(fields) and all(least <= value <= most for (least, most), value in bounds)


def context_tokens(layout: Layout, fields: dict[str, int]) -> int:
    """Positions that the model was made for; 0: the head does not reach so far."""
    return layout.default_context or fields.get("n_ctx", 0)


def cached_bytes(layout: Layout, fields: dict[str, int], positions: int = 1) -> int:
    """Bytes of all layers' keys and values of so many positions."""
    width = fields["n_embd"]
    if layout.name == "falcon":
        width = width // fields["n_head"] * fields["n_head_kv"]
    return layout.caches * layout.cache_bytes * width * fields["n_layer"] * positions


def _memory(layout: Layout | None, fields: dict[str, int], weights_bytes: int) -> MemoryNeed:
    # Some architectures keep a second copy of their embeddings.
    base = weights_bytes + weights_bytes // 8 + _BUFFER_BYTES
    if layout is None or not fields:
        return MemoryNeed(base_bytes=base)
    if layout.fixed_context:
        cache = cached_bytes(layout, fields, context_tokens(layout, fields))
        return MemoryNeed(base_bytes=base + cache)
    return MemoryNeed(base_bytes=base, per_token_bytes=cached_bytes(layout, fields))
