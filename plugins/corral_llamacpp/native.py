"""llama.cpp itself: its log, a loaded model and a context, each owned by one Python object."""

import ctypes
import logging
import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from corral_kernel.errors import InvalidOptionError, LoadError, OutOfMemoryError
from corral_llamacpp.binding import lib
from corral_llamacpp.options import LlamaOptions

logger = logging.getLogger(__name__)

KV_TYPES = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q5_1": lib.GGML_TYPE_Q5_1,
    "q5_0": lib.GGML_TYPE_Q5_0,
    "q4_1": lib.GGML_TYPE_Q4_1,
    "q4_0": lib.GGML_TYPE_Q4_0,
    "iq4_nl": lib.GGML_TYPE_IQ4_NL,
}
_SPLIT_MODES = {
    "": lib.LLAMA_SPLIT_MODE_LAYER,
    "layer": lib.LLAMA_SPLIT_MODE_LAYER,
    "row": lib.LLAMA_SPLIT_MODE_ROW,
    "none": lib.LLAMA_SPLIT_MODE_NONE,
}
_WARN, _ERROR, _CONTINUED = 3, 4, 5
_LINE_CHARACTERS = 300
# As in: load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
_BUFFER = re.compile(r"^\S+:\s+(\S+)\s.*buffer size\s*=\s*([0-9.]+) MiB")
_OUT_OF_MEMORY = re.compile(
    r"unable to allocate|failed to allocate|out of memory|bad_alloc|cannot allocate", re.IGNORECASE
)


_callbacks: list[object] = []  # the library may call them for as long as the process lives


class NativeLog:
    """What the library prints, in place of its own printing.

    Args:
        hear: Told of each line that is no trouble, as it is printed: must not raise.

    Attributes:
        buffers: Bytes allocated so far, by the library's name of the memory (`CPU`, `CUDA0`, …).
    """

    def __init__(self, hear: Callable[[str], None] = lambda _line: None) -> None:
        self.buffers: dict[str, int] = {}
        self._hear = hear
        self._troubles: deque[tuple[int, str]] = deque(maxlen=8)
        self._last_level = 0
        _callbacks.append(lib.llama_log_callback(self._take))
        lib.llama_log_set(_callbacks[-1], ctypes.c_void_p(0))

    def troubles(self) -> str:
        """The last errors, oldest first; without any, the last warnings."""
        worst = max((level for level, _ in self._troubles), default=0)
        return "; ".join(line for level, line in self._troubles if level == worst)

    def ran_out_of_memory(self) -> bool:
        """Whether one of them tells of memory that could not be had."""
        return any(_OUT_OF_MEMORY.search(line) for _, line in self._troubles)

    def forget(self) -> None:
        """Start over with the errors."""
        self._troubles.clear()

    def _take(self, level: int, text: bytes, _user_data: object) -> None:
        # Called by native code, on any of its threads: must not raise.
        if level == _CONTINUED:
            level = self._last_level
        self._last_level = level
        line = text.decode(errors="replace").strip()
        if level in (_WARN, _ERROR) and line:
            self._troubles.append((level, line[:_LINE_CHARACTERS]))
            if level == _ERROR:
                logger.error("%s", line)
        elif found := _BUFFER.match(line):
            name, mebibytes = found[1], float(found[2])
            self.buffers[name] = self.buffers.get(name, 0) + round(mebibytes * 1024 * 1024)
        else:
            self._hear(line)


def is_host(buffer_name: str) -> bool:
    """Whether a buffer of that name lies in the host's memory."""
    return buffer_name.startswith("CPU") or buffer_name.endswith("_Host")


@dataclass
class NativeModel:
    """A loaded model; `free` it once, after its contexts."""

    pointer: int
    vocab: int
    log: NativeLog
    keep_alive: list[object] = field(default_factory=list)

    @property
    def vocab_size(self) -> int:
        """Width of a row of logits."""
        return int(lib.llama_vocab_n_tokens(self.vocab))

    @property
    def trained_tokens(self) -> int:
        """Context length that it was trained with; 0: unknown."""
        return max(0, int(lib.llama_model_n_ctx_train(self.pointer)))

    def free(self) -> None:
        """Free the weights."""
        lib.llama_model_free(self.pointer)


def load_model(path: Path, options: LlamaOptions, report: Callable[[float], bool]) -> NativeModel:
    """Load the weights.

    Args:
        path: Of the GGUF file.
        options: Load options.
        report: Told the share that is loaded; False from it gives up.

    Raises:
        LoadError: With the library's own reason.
        OutOfMemoryError: If memory was the reason.
        InvalidOptionError: For an option that this machine or build cannot follow.
    """
    log = NativeLog()
    lib.llama_backend_init()
    params, keep_alive = model_params(options)

    given_up = False

    def progress(share: float, _user_data: object) -> bool:
        nonlocal given_up
        given_up = given_up or not report(share)
        return not given_up

    params.progress_callback = callback = lib.llama_progress_callback(progress)
    pointer = lib.llama_model_load_from_file(os.fsencode(path), params)
    if given_up:
        if pointer:
            lib.llama_model_free(pointer)
        raise LoadError("loading was given up")
    if not pointer:
        raise _load_error(log, "llama.cpp could not load the model")
    vocab = lib.llama_model_get_vocab(pointer)
    return NativeModel(pointer, vocab, log, [*keep_alive, callback])


def _load_error(log: NativeLog, what: str) -> LoadError:
    kind = OutOfMemoryError if log.ran_out_of_memory() else LoadError
    return kind(f"{what}: {log.troubles() or 'it gave no reason'}")


def model_params(options: LlamaOptions) -> tuple[lib.llama_model_params, list[object]]:
    """Say it in the library's struct; the objects are to be kept for as long as that is used.

    Raises:
        InvalidOptionError: For an option that this machine or build cannot follow.
    """
    params = lib.llama_model_default_params()
    params.n_gpu_layers = options.num_gpu
    if options.use_mmap is not None:
        params.load_mode = (
            lib.LLAMA_LOAD_MODE_MMAP if options.use_mmap else lib.LLAMA_LOAD_MODE_NONE
        )
    if options.split_mode not in _SPLIT_MODES:
        raise InvalidOptionError(
            f'option "split_mode" must be layer, row or none, not {options.split_mode!r}'
        )
    params.split_mode = _SPLIT_MODES[options.split_mode]
    if options.main_gpu is not None and lib.llama_supports_gpu_offload():
        params.main_gpu = options.main_gpu
        params.split_mode = lib.LLAMA_SPLIT_MODE_NONE
    shares = _tensor_split(options.tensor_split)
    if shares is not None:
        params.tensor_split = shares
    return params, [shares]


def _tensor_split(text: str) -> "ctypes.Array[ctypes.c_float] | None":
    if not text:
        return None
    room = lib.llama_max_devices()
    try:
        shares = [float(share) for share in text.split(",")]
    except ValueError:
        raise InvalidOptionError(
            f'option "tensor_split" must be numbers with commas, not {text!r}'
        ) from None
    if len(shares) > room or any(not 0 <= share < float("inf") for share in shares):
        raise InvalidOptionError(
            f'option "tensor_split" takes up to {room} shares of 0 or more, not {text!r}'
        )
    array: type[ctypes.Array[ctypes.c_float]] = ctypes.c_float * room
    return array(*shares)


@dataclass(frozen=True, kw_only=True)
class ContextSize:
    """What a context is made for.

    Attributes:
        cells: Positions that it holds, of all sequences together.
        batch_tokens: Of one decode.
        sequences: Sequences at once, cached ones included.
        outputs: Rows of logits of one decode; at least `sequences`. 0: as many as tokens.
        threads: CPU threads.
        full_windows: Keep all positions of sliding-window layers too.
        embeddings: Give vectors, not logits.
        pooling: Pooling of the vectors; None: the model's.
    """

    cells: int
    batch_tokens: int
    sequences: int
    threads: int
    outputs: int = 0
    full_windows: bool = True
    embeddings: bool = False
    pooling: int | None = None


class NativeContext:
    """A context over a model. What it refuses is raised with the library's reason."""

    def __init__(self, model: NativeModel, size: ContextSize, options: LlamaOptions) -> None:
        params = lib.llama_context_default_params()
        params.n_ctx = size.cells
        params.n_batch = params.n_ubatch = size.batch_tokens
        params.n_seq_max = size.sequences
        params.n_outputs_max = size.outputs
        params.n_threads = params.n_threads_batch = size.threads
        params.kv_unified = True  # else a sequence gets only cells / sequences
        params.swa_full = size.full_windows
        params.offload_kqv = True
        params.no_perf = True
        params.embeddings = size.embeddings
        if size.pooling is not None:
            params.pooling_type = size.pooling
        if options.flash_attention is not None:
            params.flash_attn_type = int(options.flash_attention)
        params.type_k = params.type_v = kv_type(options.kv_cache_type)
        model.log.forget()
        self.pointer = lib.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise _load_error(model.log, "llama.cpp could not make a context")
        self.memory = lib.llama_get_memory(self.pointer)
        self.cells = int(lib.llama_n_ctx(self.pointer))

    def free(self) -> None:
        """Free the cells and compute buffers."""
        lib.llama_free(self.pointer)


def kv_type(name: str) -> int:
    """The library's number of a type of cached keys and values.

    Raises:
        InvalidOptionError: For a type that it cannot keep them in.
    """
    if name and name.lower() not in KV_TYPES:
        raise InvalidOptionError(
            f'option "kv_cache_type" must be one of {", ".join(KV_TYPES)}, not {name!r}'
        )
    return KV_TYPES[name.lower() or "f16"]


def describe() -> dict[str, str | int]:
    """What this build of the library is and can do, for people."""
    return {
        "llama.cpp": lib.llama_version().decode(errors="replace"),
        "system": lib.llama_print_system_info().decode(errors="replace").strip(" |\n"),
        "gpu_offload": "yes" if lib.llama_supports_gpu_offload() else "no",
    }
