"""Calls that are interrupted when they overrun, and nothing else ever is."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from corral_kernel.errors import SamplerFailedError
from corral_kernel.sampling.failures import OverrunError
from corral_kernel.worker.beginning import SWITCH_INTERVAL_S
from corral_kernel.worker.guard import LOOKS, Guard

LATE = r"a sampler failed: it took over 0\.05 s \(CORRAL_SAMPLER_TIMEOUT\)"


@pytest.fixture
def guard() -> Guard:
    return Guard(0.05)


def spin(seconds: float = float("inf")) -> str:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return "done"


def test_a_call_gives_what_it_gives(guard: Guard) -> None:
    assert guard.call(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        guard.call(divmod, 1, 0)
    assert guard.call(spin, 0.001) == "done"


def test_a_call_over_its_time_is_interrupted(guard: Guard) -> None:
    for _ in range(3):
        with pytest.raises(SamplerFailedError, match=LATE):
            guard.call(spin)
        assert guard.call(spin, 0.001) == "done"


def test_who_is_interrupted_may_say_whose_fault_it_was(guard: Guard) -> None:
    def named() -> None:
        try:
            spin()
        except OverrunError as error:
            raise SamplerFailedError("mine", str(error)) from error

    with pytest.raises(SamplerFailedError, match="sampler 'mine' failed: it took over"):
        guard.call(named)


def test_a_call_that_swallows_its_interruption_failed_all_the_same(guard: Guard) -> None:
    def stubborn() -> str:
        try:
            spin()
        except BaseException:  # noqa: BLE001 - that is what it does
            return "all is well"
        raise AssertionError

    with pytest.raises(SamplerFailedError, match=LATE):
        guard.call(stubborn)
    assert guard.call(spin, 0.001) == "done"


def test_an_error_of_this_kind_that_a_call_makes_up_ends_it_alone(guard: Guard) -> None:
    def lying() -> None:
        raise OverrunError

    with pytest.raises(SamplerFailedError):
        guard.call(lying)
    assert guard.call(spin, 0.001) == "done"


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns as in a worker."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    yield
    sys.setswitchinterval(before)


def test_an_interruption_meets_the_call_that_was_late_or_none(quick_switches: None) -> None:
    limit_s, steps = 0.004, 40
    guard = Guard(limit_s)
    late = 0
    for n in range(20 * steps):
        # Around the limit, so that it comes at every place of a call's end; now and then for ever.
        share = n % steps / steps
        length_s = limit_s * (0.9 + share) if n % steps < steps - 1 else float("inf")
        try:
            assert guard.call(spin, length_s) == "done"
        except SamplerFailedError:
            late += 1
        for _ in range(20):
            begun = time.perf_counter()
            try:
                assert guard.call(int, "7") == 7
            except SamplerFailedError:  # legal only where this thread had no turn meanwhile
                assert time.perf_counter() - begun > limit_s / 2, "it was meant for another call"
        outside = sum(range(200))  # an exception here would end the test
        assert outside == 19900
    assert late >= 20


def test_a_guard_that_rested_watches_again(guard: Guard) -> None:
    guard.call(int, "1")
    (watcher,) = (t for t in threading.enumerate() if t.name == "guard" and _of(t, guard))
    deadline = time.monotonic() + 60
    while not guard._resting and time.monotonic() < deadline:
        watcher.join(0.01)
    assert guard._resting
    with pytest.raises(SamplerFailedError):
        guard.call(spin)


def _of(thread: threading.Thread, guard: Guard) -> bool:
    target: Any = thread._target  # type: ignore[attr-defined] # no public name
    return getattr(target, "__self__", None) is guard


def test_a_process_that_stood_still_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the watching thread counts is how often it looked: as while it could not run either.
    looks: list[float] = []
    sleep = time.sleep

    def starved(seconds: float) -> None:
        if threading.current_thread().name == "guard" and seconds:
            looks.append(seconds)
            threading.Event().wait()  # it gets no turn at all
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", starved)
    guard = Guard(0.01)
    assert guard.call(spin, 0.2) == "done"
    assert looks == [0.01 / LOOKS]


def test_a_guard_serves_one_thread_after_the_other(guard: Guard) -> None:
    ends: list[str] = []

    def work() -> None:
        for call in calls():
            try:
                ends.append(guard.call(call))
            except SamplerFailedError:
                ends.append("late")

    def calls() -> Iterator[Callable[[], str]]:
        yield lambda: "quick"
        yield spin
        yield lambda: "again"

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert ends == ["quick", "late", "again"] * 2
