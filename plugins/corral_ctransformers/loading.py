"""From a load request to an engine."""

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from corral_ctransformers.claim import cached_bytes, context_tokens
from corral_ctransformers.engine import GgmlEngine
from corral_ctransformers.layouts import NAMES, VERSIONS, Layout, find_layout, told_by
from corral_ctransformers.native import NativeModel, load_within
from corral_ctransformers.options import GgmlOptions
from corral_ctransformers.room import Room, find_room, warm_up
from corral_ctransformers.unfollowed import unfollowed
from corral_ctransformers.vocabulary import make_tokenizer
from corral_ctransformers.walk import GgmlFile, layouts_that_fit, read_magic, walk
from corral_kernel.contracts import EngineInfo, LoadRequest
from corral_kernel.errors import InvalidOptionError, LoadError, OutOfMemoryError

_FEW_CPUS = 4


def load(request: LoadRequest) -> GgmlEngine:
    """Load a model; see `corral_load`.

    Raises:
        LoadError: If the file is not what it must be, or the library refuses it.
        InvalidOptionError: For a `model_type` that nobody knows.
        OutOfMemoryError: If the model is larger than this machine's memory.
    """
    options, path = request.options, request.path("weights")
    if not isinstance(options, GgmlOptions):
        raise TypeError(f"the options are {type(options).__name__}, not GgmlOptions")
    file = walk(path, find_layout_of(path, options.model_type), request.report)
    wanted = min(options.num_ctx or file_context(file), file_context(file))
    room = find_room(file.layout, file.fields, wanted)
    memory_bytes = _checked_memory(file, room)
    native = load_within(_loader(path, file, room, options), path.stat().st_size, request.report)
    info = EngineInfo(
        capabilities=("completion",),
        vocab_size=native.vocab_size,
        context_tokens=room.context_tokens,
        slots=1,
        batch_tokens=min(options.num_batch or room.step_tokens, room.step_tokens),
        memory_bytes=memory_bytes,
        details=_details(file, threads(options)),
        warnings=unfollowed(options, file, room),
    )
    return GgmlEngine(native, make_tokenizer(file), info)


def find_layout_of(path: Path, model_type: str) -> Layout:
    """The layout to read a file by: what was asked for, else what its magic tells.

    Raises:
        LoadError: If neither tells, with the names to choose from.
        InvalidOptionError: If nobody knows the name.
    """
    if model_type:
        layout = find_layout(model_type)
        if layout is None:
            raise InvalidOptionError(
                f'option "model_type" is {model_type[:64]!r}; it must be one of {NAMES}'
            )
        return layout
    magic = read_magic(path)
    if magic not in VERSIONS:
        raise LoadError(f"the file begins with {magic!r}, as no GGML file does")
    layout = told_by(magic)
    if layout is None:
        fitting = " or ".join(layouts_that_fit(path))
        hint = f"its contents are laid out as those of {fitting}" if fitting else f"one of {NAMES}"
        raise LoadError(
            "a GGML file of this kind does not tell its architecture; say it by "
            f"PARAMETER model_type in a Modelfile, or by the option model_type: {hint}"
        )
    return layout


def file_context(file: GgmlFile) -> int:
    """Positions that the model was made for."""
    return context_tokens(file.layout, file.fields)


def threads(options: GgmlOptions) -> int:
    """CPU threads: what is asked for, else half of many CPUs, as the library has it."""
    if options.num_thread:
        return options.num_thread
    # macOS tells no affinity.
    tells = hasattr(os, "sched_getaffinity")
    cpus = len(os.sched_getaffinity(0)) if tells else os.cpu_count() or 1
    return cpus if cpus <= _FEW_CPUS else cpus // 2


def _loader(
    path: Path, file: GgmlFile, room: Room, options: GgmlOptions
) -> Callable[[], NativeModel]:
    def make() -> NativeModel:
        native = NativeModel(
            path,
            file,
            room.context_tokens,
            threads(options),
            use_mmap=options.use_mmap is not False,
        )
        if native.context_tokens < room.context_tokens:
            raise LoadError(
                f"ctransformers made room for {native.context_tokens} positions, not for "
                f"{room.context_tokens}"
            )
        warm_up(room, native.feed)
        return native

    return make


def _checked_memory(file: GgmlFile, room: Room) -> int:
    positions = file_context(file) if file.layout.fixed_context else room.context_tokens
    needed = file.weights_bytes + cached_bytes(file.layout, file.fields, positions)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise OutOfMemoryError(f"the model needs {needed} bytes of memory; there are {there}")
    return needed


def _details(file: GgmlFile, count: int) -> dict[str, str | int]:
    kind = file.magic[::-1].decode()
    return {
        "ctransformers": version("ctransformers"),
        "architecture": file.layout.name,
        "file": f"{kind} version {file.version}" if file.version else kind,
        "quantization": file.type_name,
        "devices": "CPU",
        "threads": count,
    }
