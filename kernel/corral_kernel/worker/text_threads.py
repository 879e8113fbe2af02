"""Threads for rendering, tokenizing and compiling, each task under a deadline.

A task that overruns is ended by an asynchronous exception, which Python code meets at its next
instruction: a hostile template fails its own request and nothing else.
"""

import ctypes
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

THREADS = 2
_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc


class InterruptedTaskError(BaseException):
    """Raised in a text thread from outside. No `Exception`: no task may swallow it."""


@dataclass(frozen=True, slots=True)
class _Task:
    job_id: int
    work: Callable[[], None]
    interrupted: Callable[[], None]


class _Slot:
    """One thread and what it runs now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.job_id: int | None = None
        self.deadline = float("inf")
        self.fired = False
        self.thread_id = 0

    def fire(self) -> None:
        """Interrupt the running task; the lock is held."""
        if not self.fired:
            self.fired = True
            _raise_in_thread(ctypes.c_ulong(self.thread_id), ctypes.py_object(InterruptedTaskError))


class TextThreads:
    """A few daemon threads.

    Args:
        deadline_s: What one task may take.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._slots = [_Slot() for _ in range(THREADS)]
        self._busy = threading.Condition()
        for slot in self._slots:
            threading.Thread(target=self._serve, args=(slot,), name="text", daemon=True).start()
        threading.Thread(target=self._watch, name="text-deadline", daemon=True).start()

    def submit(self, job_id: int, work: Callable[[], None], late: Callable[[], None]) -> None:
        """Run `work` soon; if it is interrupted, call `late` in its place. Neither may raise."""
        self._tasks.put(_Task(job_id, work, late))

    def interrupt(self, job_id: int) -> None:
        """End the task of a job, if one runs just now."""
        for slot in self._slots:
            with slot.lock:
                if slot.job_id == job_id:
                    slot.fire()

    def _serve(self, slot: _Slot) -> None:
        slot.thread_id = threading.get_ident()
        while True:
            task = self._tasks.get()
            ended = False
            try:
                self._begin(slot, task)
                task.work()
                ended = True
            except InterruptedTaskError:
                pass
            self._settle(slot)
            if not ended:
                task.interrupted()

    def _begin(self, slot: _Slot, task: _Task) -> None:
        with slot.lock:
            slot.job_id, slot.fired = task.job_id, False
            slot.deadline = time.monotonic() + self._deadline_s
        with self._busy:
            self._busy.notify()

    @staticmethod
    def _settle(slot: _Slot) -> None:
        """Leave the task behind; an exception that is still under way is met here."""
        while True:
            try:
                with slot.lock:
                    slot.job_id, slot.deadline = None, float("inf")
                    under_way, slot.fired = slot.fired, False
                until = time.monotonic() + 0.05
                while under_way and time.monotonic() < until:
                    time.sleep(0.001)
            except InterruptedTaskError:
                continue
            return

    def _watch(self) -> None:
        while True:
            nearest = min(slot.deadline for slot in self._slots)
            with self._busy:
                self._busy.wait(None if nearest == float("inf") else nearest - time.monotonic())
            for slot in self._slots:
                with slot.lock:
                    if slot.job_id is not None and slot.deadline <= time.monotonic():
                        slot.fire()
                        slot.deadline = float("inf")
