"""What this backend says of a GGUF model from its header alone."""

from corral_kernel.contracts import Claim, MemoryNeed
from corral_kernel.gguf import GgufHeader
from corral_kernel.models import Model

NAME = "llamacpp"

ENVIRONMENT = {"GGML_NO_BACKTRACE": "1"}
"""An assertion that fails ends the worker at once, not after a debugger printed all its stacks."""

_SINGLE = frozenset(
    {
        "lfm2", "lfm2moe", "mllama", "nemotron_h", "nemotron_h_moe", "nemotron_h_omni",
        "qwen35", "qwen35moe", "qwen3next", "qwen3vl", "qwen3vlmoe",
    }
)  # fmt: skip
"""Families that are run one request at a time, as Ollama does."""

_NOT_HERE = frozenset({"t5", "t5encoder", "clip", "wavtokenizer-dec", "dream", "llada", "rnd1"})
"""Architectures that need another loop than this engine's: an encoder first, or diffusion."""

_ELEMENT_BYTES = 2  # of cached keys and values, f16 unless an option says less
_COMPUTE_BYTES = 96 << 20  # buffers of one micro-batch, small models
_COMPUTE_WIDTHS = 64 << 10  # more for wider ones: bytes for each unit of the hidden state


def claim(model: Model) -> Claim | None:
    """Bid for a model whose weights are one readable GGUF of a text model."""
    header, weights = model.gguf, model.weights
    if header is None or weights is None or model.is_remote:
        return None
    if header.is_projector or header.kind != "model" or header.architecture in _NOT_HERE:
        return None
    embeds = header.pooling_type is not None
    return Claim(
        backend=NAME,
        confidence=0.9,
        why=f"a GGUF of architecture {header.architecture}",
        capabilities=("embedding",) if embeds else ("completion",),
        context_tokens=header.context_length or 0,
        memory=_memory(header, weights.size_bytes),
        environment=ENVIRONMENT,
        slots=1 if embeds or header.architecture in _SINGLE else 0,
    )


def _memory(header: GgufHeader, weights_bytes: int) -> MemoryNeed:
    base = weights_bytes + _COMPUTE_BYTES + _COMPUTE_WIDTHS * (header.embedding_length or 0)
    return MemoryNeed(base_bytes=base, per_token_bytes=token_bytes(header))


def token_bytes(header: GgufHeader) -> int:
    """Bytes that one position occupies in all layers' caches, at 16 bits a number."""
    width = (header.key_length or 0) + (header.value_length or 0)
    heads = header.kv_head_counts
    if len(heads) == 1:
        heads *= header.block_count or 1
    return sum(heads) * width * _ELEMENT_BYTES
