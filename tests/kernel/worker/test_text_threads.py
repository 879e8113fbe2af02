import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from corral_kernel.worker import text_threads
from corral_kernel.worker.text_threads import InterruptedTaskError, Task, TextThreads

LIMIT_S = 20.0


class Outcomes:
    """Tasks that report how they ended."""

    def __init__(self, deadline_s: float) -> None:
        self.threads = TextThreads(deadline_s)
        self._ends: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._count = itertools.count()

    def submit(self, work: Callable[[], Any]) -> int:
        job_id = next(self._count)

        def run() -> Callable[[], None]:
            result = work()
            return lambda: self._ends.put((job_id, result))

        self.threads.submit(
            Task(
                job_id,
                run,
                failed=lambda error: self._ends.put((job_id, error)),
                late=lambda: self._ends.put((job_id, "late")),
            )
        )
        return job_id

    def next(self) -> tuple[int, Any]:
        return self._ends.get(timeout=LIMIT_S)


def spin() -> None:
    while True:
        pass


def test_a_result_is_delivered() -> None:
    outcomes = Outcomes(10)
    assert (outcomes.submit(lambda: 42), 42) == outcomes.next()


def test_what_a_task_raises_is_its_own_end() -> None:
    outcomes = Outcomes(10)
    outcomes.submit(lambda: 1 // 0)
    assert isinstance(outcomes.next()[1], ZeroDivisionError)
    assert (outcomes.submit(lambda: "on"), "on") == outcomes.next()


def test_a_task_over_its_deadline_is_interrupted_and_the_others_go_on() -> None:
    outcomes = Outcomes(0.5)
    hostile = [outcomes.submit(spin) for _ in range(text_threads.THREADS)]
    ends = dict(outcomes.next() for _ in hostile)
    assert ends == dict.fromkeys(hostile, "late")
    harmless = [outcomes.submit(lambda: "done") for _ in range(10)]
    assert dict(outcomes.next() for _ in harmless) == dict.fromkeys(harmless, "done")


def test_one_hostile_task_delays_no_other() -> None:
    outcomes = Outcomes(0.5)
    outcomes.submit(spin)
    for _ in range(20):
        assert (outcomes.submit(lambda: "done"), "done") == outcomes.next()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_a_long_task_goes_on_at_a_lower_priority_and_leaves_it_to_nobody() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def wait_for_it() -> int:
        began = time.monotonic()
        while niceness() == usual and time.monotonic() < began + LIMIT_S:
            time.sleep(0.01)
        return niceness() - usual

    usual = niceness()
    outcomes = Outcomes(60)
    for _ in range(text_threads.THREADS + 1):
        long = outcomes.submit(wait_for_it)
        assert outcomes.next() == (long, min(text_threads.NICENESS, 19 - usual))
    for _ in range(2 * text_threads.THREADS):
        short = outcomes.submit(niceness)
        assert outcomes.next() == (short, usual)


def test_a_task_that_swallows_the_interruption_delivers_what_it_gives() -> None:
    def stubborn() -> str:
        try:
            spin()
        except InterruptedTaskError:
            return "all the same"
        raise AssertionError

    outcomes = Outcomes(0.3)
    assert (outcomes.submit(stubborn), "all the same") == outcomes.next()
    assert (outcomes.submit(lambda: "next"), "next") == outcomes.next()


def test_a_dropped_task_that_waits_is_not_begun() -> None:
    outcomes, gate, begun = Outcomes(10), threading.Event(), []
    for _ in range(text_threads.THREADS):
        outcomes.submit(gate.wait)
    dropped = outcomes.submit(lambda: begun.append("dropped"))
    last = outcomes.submit(lambda: "last")
    outcomes.threads.drop(dropped)
    gate.set()
    assert {outcomes.next()[0] for _ in range(3)} == {0, 1, last}
    assert begun == []


def test_a_dropped_task_that_runs_is_interrupted_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_threads, "GRACE_S", 0.02)
    outcomes, begun = Outcomes(60), threading.Event()
    job_id = outcomes.submit(lambda: (begun.set(), spin()))
    assert begun.wait(LIMIT_S)
    outcomes.threads.drop(job_id)
    assert outcomes.next() == (job_id, "late")


def test_dropping_an_ended_task_harms_nobody() -> None:
    outcomes = Outcomes(10)
    job_id = outcomes.submit(lambda: 1)
    outcomes.next()
    outcomes.threads.drop(job_id)
    assert (outcomes.submit(lambda: 2), 2) == outcomes.next()


def test_an_interruption_never_reaches_another_task_or_kills_a_thread() -> None:
    deadline_s = 0.0005
    outcomes = Outcomes(deadline_s)

    def work(length_s: float) -> Callable[[], str]:
        def run() -> str:
            until = time.perf_counter() + length_s
            while time.perf_counter() < until:
                pass
            return "done"

        return run

    # Around the deadline, so that interruptions come at every place of a task's end, now and then
    # one without an end; and between them tasks so short that only one meant for another could hit
    # them.
    lengths = [deadline_s * (0.85 + 0.3 * (n % 30) / 30) for n in range(1500)]
    endless = range(29, len(lengths), 30)
    for n in endless:
        lengths[n] = LIMIT_S
    for length in lengths:
        outcomes.submit(work(length))
        outcomes.submit(lambda: "short")
    ends = [outcomes.next() for _ in range(2 * len(lengths))]
    assert sorted(job_id for job_id, _ in ends) == list(range(2 * len(lengths)))
    results = dict(ends)
    longs = [results[n] for n in range(0, len(results), 2)]
    assert set(longs) <= {"done", "late"}  # how many of each is the machine's affair
    assert {longs[n] for n in endless} == {"late"}
    shorts = [results[n] for n in range(1, len(results), 2)]
    assert set(shorts) <= {"short", "late"}
    assert shorts.count("short") > 0.9 * len(shorts)  # a busy machine may be late itself
    for _ in range(4):
        outcomes.submit(lambda: "alive")
        assert outcomes.next()[1] in {"alive", "late"}


def test_a_task_that_hangs_in_native_code_ends_the_process() -> None:
    program = """
import ctypes, queue
from corral_kernel.worker import text_threads
text_threads.STUCK_S = 0.1
threads = text_threads.TextThreads(0.05)
sleep = ctypes.CDLL(None).usleep
threads.submit(text_threads.Task(1, lambda: sleep(60_000_000), print, print))
queue.SimpleQueue().get()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == text_threads.EXIT_TEXT_STUCK
    assert "hangs in native code" in ended.stderr


def test_dropping_a_task_that_was_interrupted_already_does_not_end_the_process() -> None:
    program = """
import queue, threading
from corral_kernel.worker import text_threads
text_threads.GRACE_S = 0.0
threads = text_threads.TextThreads(0.05)
fired, gate, ends = threading.Event(), threading.Event(), queue.SimpleQueue()

def work():
    try:
        while True:
            pass
    except text_threads.InterruptedTaskError:
        fired.set()
        gate.wait()
    return lambda: ends.put("delivered")

threads.submit(text_threads.Task(1, work, print, print))
fired.wait()
for _ in range(20):
    threads.drop(1)
    threads.submit(text_threads.Task(2, lambda: lambda: ends.put("other"), print, print))
    ends.get()
gate.set()
print(ends.get())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("delivered\n", "", 0)
