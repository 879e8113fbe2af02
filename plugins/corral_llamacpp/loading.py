"""From a load request to an engine or an encoder."""

from dataclasses import dataclass

from corral_kernel.contracts import Engine, EngineInfo, LoadRequest
from corral_kernel.errors import LoadError
from corral_kernel.gguf import GgufHeader, read_header
from corral_llamacpp.binding import lib
from corral_llamacpp.cells import NativeCells
from corral_llamacpp.claim import token_bytes
from corral_llamacpp.encoder import LlamaEncoder
from corral_llamacpp.engine import LlamaEngine
from corral_llamacpp.machine import memory_bytes as machine_bytes
from corral_llamacpp.machine import physical_cores
from corral_llamacpp.memory import Memory
from corral_llamacpp.native import (
    ContextSize,
    NativeContext,
    NativeModel,
    describe,
    is_host,
    load_model,
)
from corral_llamacpp.options import LlamaOptions
from corral_llamacpp.parking import Parking
from corral_llamacpp.shared import SharedMemory
from corral_llamacpp.unfollowed import unfollowed
from corral_llamacpp.whole import WholeMemory

_CONTEXT_TOKENS = 4096
_MICRO_BATCH = 512
_CACHED_SEQUENCES = 24
_CACHED_STATES = 4  # of recurrent models, whose every sequence takes a whole state
_ENCODED_AT_ONCE = 64
_ROWS_BYTES = 64 << 20  # of logits of one step
_MACHINE_SHARE = 8
_WINDOWS_BYTES = 2 << 30  # up to this, sliding-window layers keep everything too


@dataclass(frozen=True)
class _Plan:
    """A loaded model and what was asked for."""

    model: NativeModel
    options: LlamaOptions
    slots: int
    header: GgufHeader

    @property
    def context_tokens(self) -> int:
        """Positions of one job: what is wanted, at most what the model was trained for."""
        wanted = self.options.num_ctx or _CONTEXT_TOKENS
        return min(wanted, self.model.trained_tokens or wanted)

    @property
    def threads(self) -> int:
        """CPU threads."""
        return self.options.num_thread or physical_cores()

    @property
    def can_park(self) -> bool:
        """Whether a copy of a sequence's cells has all of it."""
        return not self.has_fixed_state and lib.llama_model_n_swa(self.model.pointer) <= 0

    @property
    def has_fixed_state(self) -> bool:
        """Whether the memory is a state that cannot go back, alone or beside other layers."""
        pointer = self.model.pointer
        return bool(lib.llama_model_is_recurrent(pointer) or lib.llama_model_is_hybrid(pointer))


def load(request: LoadRequest) -> Engine:
    """Load a model; see `corral_load`.

    Raises:
        LoadError: With the library's own reason.
        InvalidModelError: If the file's head is damaged.
        InvalidOptionError: For an option that this machine or build cannot follow.
    """
    options = request.options
    assert isinstance(options, LlamaOptions)
    path = request.path("weights")
    header = read_header(path)  # checked here too: native code believes what it reads
    model = load_model(path, options, request.report)
    plan = _Plan(model, options, max(1, request.slots), header)
    try:
        if "embedding" in request.claim.capabilities:
            return _load_encoder(plan)
        return _load_engine(plan)
    except BaseException:
        model.free()
        raise


def _load_engine(plan: _Plan) -> LlamaEngine:
    model, options = plan.model, plan.options
    if lib.llama_model_has_encoder(model.pointer) or lib.llama_model_is_diffusion(model.pointer):
        raise LoadError("models that first encode a text, or write by diffusion, are not supported")
    cached = _CACHED_STATES if plan.has_fixed_state else _CACHED_SEQUENCES
    sequences = plan.slots + cached
    if sequences > lib.llama_max_parallel_sequences():
        raise LoadError(f"llama.cpp runs fewer requests at once than {plan.slots}")
    cells = plan.context_tokens * plan.slots
    wanted = min(options.num_batch or _MICRO_BATCH, options.num_ubatch or _MICRO_BATCH)
    # The library aborts if there are more sequences than rows, or more rows than tokens.
    batch_tokens = max(wanted, sequences)
    rows = min(batch_tokens, max(sequences, _ROWS_BYTES // (4 * model.vocab_size)))
    size = ContextSize(
        cells=max(cells, batch_tokens),
        batch_tokens=batch_tokens,
        sequences=sequences,
        threads=plan.threads,
        outputs=rows,
        full_windows=token_bytes(plan.header) * cells <= _WINDOWS_BYTES,
    )
    context = NativeContext(model, size, options)
    try:
        memory = _memory(plan, size, context)
        info = EngineInfo(
            capabilities=_capabilities(plan, memory),
            vocab_size=model.vocab_size,
            context_tokens=plan.context_tokens,
            slots=plan.slots,
            batch_tokens=batch_tokens,
            memory_bytes=memory_bytes(model),
            vram_bytes=memory_bytes(model, device=True),
            details=_details(plan),
            warnings=unfollowed(
                options, batch_tokens, "each sequence needs its row", can_park=plan.can_park
            ),
        )
        drafts = rows // plan.slots - 1 if "drafts" in info.capabilities else 0
        return LlamaEngine(model, context, memory, info, drafts)
    except BaseException:
        context.free()
        raise


def _memory(plan: _Plan, size: ContextSize, context: NativeContext) -> Memory:
    cells = NativeCells(context)
    window = max(0, int(lib.llama_model_n_swa(plan.model.pointer)))
    if plan.has_fixed_state:
        return WholeMemory(cells, context.cells, size.sequences, copies=True)
    if window and not size.full_windows:
        # Windows of shared cells would not be freed as they slide on.
        return WholeMemory(cells, context.cells, size.sequences, copies=False)
    parking = Parking(_parking_bytes(plan, size)) if plan.can_park else None
    # What is moved is turned to its new position, which only rotary embeddings can be.
    rotary = lib.llama_model_rope_type(plan.model.pointer) != lib.LLAMA_ROPE_TYPE_NONE
    can_move = rotary and bool(lib.llama_memory_can_shift(context.memory))
    return SharedMemory(
        cells,
        context.cells,
        size.sequences,
        window=window,
        can_move=can_move,
        parking=parking,
    )


def _parking_bytes(plan: _Plan, size: ContextSize) -> int:
    """What is asked for; else as much as the cells take, but an eighth of all memory at most."""
    if plan.options.cache_ram is not None:
        return plan.options.cache_ram << 20
    if any(not is_host(name) for name in plan.model.log.buffers):
        return 0  # copies go over a bus, and a GPU is quick to walk over cells
    return min(token_bytes(plan.header) * size.cells, machine_bytes() // _MACHINE_SHARE)


def _capabilities(plan: _Plan, memory: Memory) -> tuple[str, ...]:
    drafts = () if plan.has_fixed_state else ("drafts",)
    cut = ("cut",) if memory.shares else ()
    return ("completion", "adapters", *drafts, *cut)


def _load_encoder(plan: _Plan) -> LlamaEncoder:
    model = plan.model
    context_tokens = plan.context_tokens
    # One text is never cut in two, and whole batches are computed at once.
    batch_tokens = max(context_tokens, plan.options.num_batch, _ENCODED_AT_ONCE)
    size = ContextSize(
        cells=batch_tokens,
        batch_tokens=batch_tokens,
        sequences=_ENCODED_AT_ONCE,
        threads=plan.threads,
        embeddings=True,
        pooling=_pooling(plan.header),
    )
    context = NativeContext(model, size, plan.options)
    try:
        info = EngineInfo(
            capabilities=("embedding",),
            context_tokens=context_tokens,
            slots=_ENCODED_AT_ONCE,
            batch_tokens=batch_tokens,
            memory_bytes=memory_bytes(model),
            vram_bytes=memory_bytes(model, device=True),
            truncates_to=context_tokens,
            details=_details(plan),
            warnings=unfollowed(
                plan.options, batch_tokens, "a text is encoded at once", can_park=False
            ),
        )
        return LlamaEncoder(model, context, info)
    except BaseException:
        context.free()
        raise


def _pooling(header: GgufHeader) -> int | None:
    """The model's own; a model that leaves its rows alone gets their mean."""
    unpooled = header.pooling_type == lib.LLAMA_POOLING_TYPE_NONE
    return lib.LLAMA_POOLING_TYPE_MEAN if unpooled else None


def memory_bytes(model: NativeModel, *, device: bool = False) -> int:
    """What the library said it allocated, in all or on devices only."""
    buffers = model.log.buffers.items()
    return sum(size for name, size in buffers if not (device and is_host(name)))


def _details(plan: _Plan) -> dict[str, str | int]:
    devices = sorted({name for name in plan.model.log.buffers if not is_host(name)})
    return {**describe(), "devices": ", ".join(devices) or "CPU", "threads": plan.threads}
