"""LoRA adapters: loaded once, applied to a whole batch, so that sets of them take turns."""

import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from corral_kernel.contracts import FileRef
from corral_kernel.errors import CorralError, EngineError, InvalidModelError
from corral_kernel.gguf import read_header
from corral_llamacpp.binding import lib
from corral_llamacpp.native import NativeContext, NativeModel

AdapterSet = tuple[str, ...]
"""Digests of the adapters of a job, in its order."""

_KEPT = 8  # adapters that stay loaded unused
_TURN_STEPS = 8  # changing the set makes the library plan its graph anew


class Adapters:
    """The adapters of one context."""

    def __init__(self, model: NativeModel, context: NativeContext) -> None:
        self._model = model
        self._context = context
        self._loaded: dict[str, ctypes._Pointer[ctypes.c_void_p]] = {}  # least lately used first
        self._applied: AdapterSet = ()

    def load(self, files: Sequence[FileRef], in_use: Iterable[AdapterSet]) -> AdapterSet:
        """Load what is not loaded yet.

        Args:
            files: Of a job.
            in_use: Sets of the jobs that run.

        Raises:
            InvalidModelError: If a file is no adapter, or none of this model.
        """
        for file in files:
            adapter = self._loaded.pop(file.digest, None) or self._read(file)
            self._loaded[file.digest] = adapter
        wanted = tuple(file.digest for file in files)
        needed = {digest for digests in (*in_use, self._applied, wanted) for digest in digests}
        spare = max(0, len(self._loaded) - _KEPT)
        for digest in [d for d in self._loaded if d not in needed][:spare]:
            lib.llama_adapter_lora_free(self._loaded.pop(digest))
        return wanted

    def _read(self, file: FileRef) -> "ctypes._Pointer[ctypes.c_void_p]":
        try:
            header = read_header(Path(file.path))
        except (CorralError, OSError) as error:
            raise InvalidModelError(f"adapter {file.digest}: {error}") from None
        if header.kind != "adapter":
            raise InvalidModelError(f"adapter {file.digest} is a GGUF of a {header.kind}")
        self._model.log.forget()
        adapter = lib.llama_adapter_lora_init(self._model.pointer, os.fsencode(file.path))
        if not adapter:
            reason = self._model.log.troubles()
            raise InvalidModelError(f"adapter {file.digest} does not fit this model: {reason}")
        return adapter  # type: ignore[no-any-return]  # the binding is untyped

    def apply(self, digests: AdapterSet) -> None:
        """Let the next decodes use a set that is loaded."""
        if digests == self._applied:
            return
        count = len(digests)
        chosen = (lib.llama_adapter_lora_p_ctypes * count)(*(self._loaded[d] for d in digests))
        scales = (ctypes.c_float * count)(*[1.0] * count)
        if lib.llama_set_adapters_lora(self._context.pointer, chosen, count, scales):
            raise EngineError("llama.cpp refused the adapters: " + self._model.log.troubles())
        self._applied = digests


class Turns:
    """Whose turn it is when jobs have different adapters: each set for a few steps."""

    def __init__(self) -> None:
        self._current: AdapterSet = ()
        self._left = 0
        self._turn = 0
        self._served: dict[AdapterSet, int] = {}

    def choose(self, waiting: Sequence[AdapterSet]) -> AdapterSet:
        """The set of the next step.

        Args:
            waiting: Sets of the jobs that have something to feed, oldest job first; at least one.
        """
        if self._current in waiting and (self._left > 0 or len(set(waiting)) == 1):
            self._left -= 1
            return self._current
        self._served = {digests: self._served.get(digests, -1) for digests in waiting}
        self._current = min(waiting, key=self._served.__getitem__)
        self._turn += 1
        self._served[self._current] = self._turn
        self._left = _TURN_STEPS - 1
        return self._current
