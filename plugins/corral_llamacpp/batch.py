"""What goes into a decode and comes out of it, as numpy arrays over the library's memory.

Filling a batch by slices and reading logits without a copy costs next to nothing a step.
"""

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corral_kernel.errors import EngineError
from corral_llamacpp.binding import lib
from corral_llamacpp.native import NativeContext

_VIEWS = 256

# Bound once more, to an address: a typed pointer and its cast take five times as long.
get_logits = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(
    ctypes.cast(lib.llama_get_logits, ctypes.c_void_p).value or 0
)


class Batch:
    """Tokens for one decode, of any number of sequences.

    Attributes:
        length: Tokens in it.
        rows: Rows of logits that it asks for.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self.rows = 0
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        self._ramp = np.arange(capacity, dtype=np.int32)
        self._ones = np.ones(capacity, np.int32)
        base, step = self._sequences.ctypes.data, self._sequences.itemsize
        self._sequence_pointers = np.arange(base, base + capacity * step, step, dtype=np.uintp)
        self.native = lib.llama_batch(
            n_tokens=0,
            token=self._pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=self._pointer(self._positions, ctypes.c_int32),
            n_seq_id=self._pointer(self._ones, ctypes.c_int32),
            seq_id=self._pointer(self._sequence_pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=self._pointer(self._wanted, ctypes.c_int8),
        )

    @staticmethod
    def _pointer(array: NDArray[np.generic], kind: type) -> object:
        return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))

    def clear(self) -> None:
        """Empty it."""
        self.length = self.rows = 0

    def add(self, token_ids: Sequence[int], position: int, sequence: int, rows: int) -> None:
        """Append tokens of one sequence.

        Args:
            token_ids: At least one, valid ids; there must be room.
            position: Of the first.
            sequence: Sequence id.
            rows: For how many of the last ones logits are wanted.
        """
        start, stop = self.length, self.length + len(token_ids)
        if len(token_ids) == 1:
            self._tokens[start] = token_ids[0]
            self._positions[start] = position
            self._sequences[start] = sequence
            self._wanted[start] = rows
        else:
            self._tokens[start:stop] = token_ids
            np.add(self._ramp[: stop - start], position, out=self._positions[start:stop])
            self._sequences[start:stop] = sequence
            self._wanted[start : stop - rows] = 0
            self._wanted[stop - rows : stop] = 1
        self.length = self.native.n_tokens = stop
        self.rows += rows


class LogitsView:
    """The library's own buffer of logits as a numpy array."""

    def __init__(self, context: NativeContext, width: int) -> None:
        self._context = context
        self._width = width
        # By address and rows: the buffer rarely moves, and to wrap it anew takes microseconds.
        self._views: dict[tuple[int, int], NDArray[np.float32]] = {}

    def read(self, rows: int) -> NDArray[np.float32]:
        """Wait for the decode; give its rows `(rows, width)`, writable, without a copy.

        Raises:
            EngineError: If the library has no logits.
        """
        address = get_logits(self._context.pointer)
        if not address:
            raise EngineError("llama.cpp gave no logits")
        view = self._views.get((address, rows))
        if view is None:
            if len(self._views) > _VIEWS:
                self._views.clear()
            buffer = (ctypes.c_float * (rows * self._width)).from_address(address)
            view = np.ctypeslib.as_array(buffer).reshape(rows, self._width)
            self._views[address, rows] = view
        return view
