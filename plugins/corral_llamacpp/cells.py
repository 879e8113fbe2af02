"""The library's sequences, as `Memory` sees them."""

import llama_cpp.llama_cpp as lib

from corral_llamacpp.native import NativeContext


class NativeCells:
    """See `Cells`."""

    def __init__(self, context: NativeContext) -> None:
        self._memory = context.memory

    def remove(self, sequence: int, start: int, stop: int) -> bool:
        """See `Cells`."""
        return bool(lib.llama_memory_seq_rm(self._memory, sequence, start, stop))

    def share(self, source: int, target: int, start: int, stop: int) -> None:
        """See `Cells`."""
        lib.llama_memory_seq_cp(self._memory, source, target, start, stop)

    def move(self, sequence: int, start: int, stop: int, by: int) -> None:
        """See `Cells`."""
        lib.llama_memory_seq_add(self._memory, sequence, start, stop, by)

    def first(self, sequence: int) -> int:
        """See `Cells`."""
        return int(lib.llama_memory_seq_pos_min(self._memory, sequence))
