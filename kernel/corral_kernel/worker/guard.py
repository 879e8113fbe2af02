"""Strangers' Python code, interrupted where it takes too long.

Samplers and constraints run on the engine thread, in the midst of everybody's step. One that loops
for ever is ended by an asynchronous exception, which Python code meets at its next instruction;
native code that never returns is the step timeout's affair.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from corral_kernel.errors import SamplerFailedError
from corral_kernel.sampling.failures import OverrunError

P = ParamSpec("P")
T = TypeVar("T")

LOOKS = 8
"""How often the watching thread looks at a call before it is late. It counts its looks and reads no
clock: where the whole process stood still, it did not look."""

_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = [ctypes.c_ulong, ctypes.py_object]
_clear_exception = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class Guard:
    """Calls functions, for one thread at a time; each may take so long and no longer.

    A call costs half a microsecond: no lock is taken and no clock read. Calls are numbered, and the
    one under way stands in a dictionary. Whoever takes it out, its end or the watching thread,
    decides whether it is interrupted: so an exception meets the call that was late, or none.

    Args:
        timeout_s: What one call may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self._interval_s = timeout_s / LOOKS
        self._overrun = type("OverrunError", (OverrunError,), {"limit_s": timeout_s})
        self._calls = 0
        self._open: dict[int, int] = {}  # the call under way, and its thread
        self._fired = 0  # the last call that was interrupted
        self._ended = 0  # the last call that nothing can interrupt any more
        self._resting = False
        self._wake = threading.Event()
        self._watching = False

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function.

        Raises:
            SamplerFailedError: If it overran, and did not say so by an error of its own.
        """
        self._calls = number = self._calls + 1
        if self._resting or not self._watching:
            self._watch_again()
        try:
            try:
                self._open[number] = threading.get_ident()
                result = function(*args, **kwargs)
            finally:
                self._end(number)
        except OverrunError as error:
            self._end(number)  # it may have come in the midst of that
            raise SamplerFailedError("", str(error)) from error
        if self._fired == number:  # somebody swallowed it
            raise SamplerFailedError("", str(self._overrun()))
        return result

    def _end(self, number: int) -> None:
        """From here on nothing interrupts the call; what is still under way is taken back."""
        if self._ended == number:
            return
        if self._open.pop(number, None) is None:
            while self._fired != number:
                time.sleep(0)
            _clear_exception(threading.get_ident(), None)
        self._ended = number

    # ------------------------------------------------------------------ on a thread of its own

    def _watch_again(self) -> None:
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._watch, name="guard", daemon=True).start()
        self._wake.set()

    def _watch(self) -> None:
        seen, looks = 0, 0
        while True:
            time.sleep(self._interval_s)
            number = self._calls
            if number != seen:
                seen, looks = number, 0
            looks += 1
            if looks <= LOOKS:
                continue
            if number in self._open:
                self._interrupt(number)
            else:
                self._rest(number)

    def _interrupt(self, number: int) -> None:
        thread_id = self._open.pop(number, None)
        if thread_id is not None:
            _set_exception(thread_id, self._overrun)
            self._fired = number

    def _rest(self, number: int) -> None:
        """Sleep until there are calls again."""
        self._resting = True
        if self._calls == number:  # else one came before it could know
            self._wake.wait()
        self._resting = False
        self._wake.clear()
