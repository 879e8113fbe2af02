"""Threads for rendering, tokenizing and compiling, each task under a deadline.

A task that overruns is ended by an asynchronous exception, which Python code meets at its next
instruction: a hostile template fails its own request and nothing else. Nor does it hold up answers
until then: llama.cpp's threads wait for the slowest of them, so who takes a core from one takes it
from all, and what is not over soon leaves the cores to them.
"""

import ctypes
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

THREADS = 2
LONG_S = 0.05 if sys.platform == "linux" else float("inf")
"""A task that takes longer goes on at a lower priority, where threads have one of their own."""
NICENESS = 10
GRACE_S = 1.0
"""A task that nobody wants any more may go on for so long: to interrupt one costs more than most
tasks do, and an import that was cut short cannot be taken up again."""

STUCK_S = 10.0
"""A task that does not meet its exception for so long is deep in native code: only the end of the
process helps. What has not begun to be answered is then run on another worker."""
EXIT_TEXT_STUCK = 72

_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = [ctypes.c_ulong, ctypes.py_object]
_clear_exception = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)
_NEVER = float("inf")


class InterruptedTaskError(BaseException):
    """Raised in a text thread from outside. No `Exception`: no task may swallow it."""


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be done on a text thread.

    Attributes:
        job_id: Whose it is.
        work: May be interrupted anywhere; takes no lock that others need. What it returns is
            called as soon as that can no longer happen.
        failed: Called in its place with what `work` raised.
        late: Called in its place when `work` was interrupted.
    """

    job_id: int
    work: Callable[[], Callable[[], None]]
    failed: Callable[[Exception], None]
    late: Callable[[], None]


class _Slot:
    """What one thread runs now. The lock of `TextThreads` guards it."""

    def __init__(self) -> None:
        self.thread_id = self.native_id = 0
        self.slowed = False  # the thread has given up its priority, and may not take it back
        self.left = False  # and has ended therefore
        self.task: Task | None = None
        self.began = 0.0
        self.deadline = _NEVER
        self.fired = False

    @property
    def next_look(self) -> float:
        """When something is to be done about its task."""
        if self.task is None or self.slowed:
            return self.deadline
        return min(self.deadline, self.began + LONG_S)


class TextThreads:
    """A few daemon threads.

    Args:
        deadline_s: What one task may take.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._task_came = threading.Condition(self._lock)
        self._deadline_moved = threading.Condition(self._lock)
        self._tasks: deque[Task] = deque()
        self._slots = [_Slot() for _ in range(THREADS)]
        for slot in self._slots:
            self._start(slot)
        threading.Thread(target=self._watch, name="text-deadline", daemon=True).start()

    def submit(self, task: Task) -> None:
        """Have a task done soon."""
        with self._lock:
            self._tasks.append(task)
            self._task_came.notify()

    def drop(self, job_id: int) -> None:
        """Nobody waits for a job's task any more: do not begin it, or end it soon."""
        with self._lock:
            self._tasks = deque(task for task in self._tasks if task.job_id != job_id)
            for slot in self._slots:
                runs = slot.task is not None and slot.task.job_id == job_id
                if runs and not slot.fired:
                    slot.deadline = min(slot.deadline, slot.began + GRACE_S)
                    self._deadline_moved.notify()

    def _start(self, slot: _Slot) -> None:
        threading.Thread(target=self._serve, args=(slot,), name="text", daemon=True).start()

    # ------------------------------------------------------------------------ on its threads

    def _serve(self, slot: _Slot) -> None:
        slot.thread_id, slot.native_id = threading.get_ident(), threading.get_native_id()
        while not slot.slowed:
            self._run_one(slot)()
        with self._lock:
            slot.left = True
            self._deadline_moved.notify()

    def _run_one(self, slot: _Slot) -> Callable[[], None]:
        """Do the next task, and give what is to be called after it.

        At most one exception comes from outside: between `_open` and the end of `_close`.
        """
        task: Task | None = None
        try:
            try:
                return self._open(slot).work()
            finally:
                task = self._close(slot)
        except InterruptedTaskError:
            task = self._close(slot) or task  # it may have come in the midst of that
            assert task is not None
            return task.late
        except Exception as error:  # noqa: BLE001 - whatever `work` raises is its job's
            assert task is not None
            return partial(task.failed, error)

    def _open(self, slot: _Slot) -> Task:
        with self._lock:
            self._task_came.wait_for(lambda: bool(self._tasks))
            slot.task = task = self._tasks.popleft()
            slot.fired = False
            slot.began = time.monotonic()
            slot.deadline = slot.began + self._deadline_s
            self._deadline_moved.notify()
            return task

    def _close(self, slot: _Slot) -> Task | None:
        """From here on nothing interrupts; what is still under way is taken back."""
        with self._lock:
            slot.deadline = _NEVER
            _clear_exception(slot.thread_id, None)
            task, slot.task = slot.task, None
            return task

    def _watch(self) -> None:
        with self._lock:
            while True:
                nearest = min(slot.next_look for slot in self._slots)
                timeout_s = None if nearest == _NEVER else max(0.0, nearest - time.monotonic())
                self._deadline_moved.wait(timeout_s)
                for slot in self._slots:
                    if slot.left:  # a new one has the priority of the thread that starts it: ours
                        slot.slowed = slot.left = False
                        self._start(slot)
                    if slot.deadline <= time.monotonic():
                        self._overdue(slot)
                    elif slot.next_look <= time.monotonic():
                        self._slow_down(slot)

    @staticmethod
    def _slow_down(slot: _Slot) -> None:
        slot.slowed = True
        now = os.getpriority(os.PRIO_PROCESS, slot.native_id)
        os.setpriority(os.PRIO_PROCESS, slot.native_id, now + NICENESS)

    @staticmethod
    def _overdue(slot: _Slot) -> None:
        if slot.fired:
            sys.stderr.write("preparing a request hangs in native code: the worker ends\n")
            sys.stderr.flush()
            os._exit(EXIT_TEXT_STUCK)
        slot.fired = True
        slot.deadline = time.monotonic() + STUCK_S
        _set_exception(slot.thread_id, InterruptedTaskError)
