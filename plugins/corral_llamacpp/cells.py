"""The library's sequences, as `Memory` sees them."""

import ctypes

import numpy as np

from corral_llamacpp.binding import lib
from corral_llamacpp.memory import State
from corral_llamacpp.native import NativeContext


class NativeCells:
    """See `Cells`."""

    def __init__(self, context: NativeContext) -> None:
        self._context = context.pointer
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

    def size(self, sequence: int) -> int:
        """See `Cells`."""
        return int(lib.llama_state_seq_get_size(self._context, sequence))

    def save(self, sequence: int) -> State:
        """See `Cells`."""
        state = np.empty(self.size(sequence), np.uint8)
        lib.llama_state_seq_get_data(self._context, _bytes(state), state.nbytes, sequence)
        return state

    def restore(self, sequence: int, state: State) -> bool:
        """See `Cells`."""
        return bool(
            lib.llama_state_seq_set_data(self._context, _bytes(state), state.nbytes, sequence)
        )


def _bytes(state: State) -> object:
    return ctypes.cast(state.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
