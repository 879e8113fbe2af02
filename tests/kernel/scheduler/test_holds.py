"""What is kept for a model, such as its files, is let go once, when its worker is gone."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from corral_kernel.errors import CorralError
from corral_kernel.scheduler import Hold, Scheduler, Want

Start = Callable[..., Scheduler]


class Kept:
    """Makes holds and counts how often each was let go."""

    def __init__(self) -> None:
        self.gone: Counter[str] = Counter()

    def hold(self, want: Want, name: str) -> Hold:
        return Hold(want.model.digest, lambda: self.gone.update([name]))


@pytest.fixture
def kept() -> Kept:
    return Kept()


async def test_it_stays_until_the_worker_is_gone(
    start_scheduler: Start, tools: Any, kept: Kept
) -> None:
    scheduler = start_scheduler()
    want = tools.want()
    first = await scheduler.acquire(want, 10**12, kept.hold(want, "first"))
    second = await scheduler.acquire(want, 10**12, kept.hold(want, "second"))
    assert kept.gone == {"second": 1}  # one is enough
    first.release()
    second.release()
    assert kept.gone == {"second": 1}
    scheduler.expire(want.key)
    await tools.until(lambda: kept.gone["first"])
    assert scheduler.running() == []
    assert kept.gone == {"first": 1, "second": 1}


async def test_a_worker_that_dies_lets_go_of_it(
    start_scheduler: Start, tools: Any, kept: Kept
) -> None:
    scheduler = start_scheduler()
    want = tools.want()
    lease = await scheduler.acquire(want, 10**12, kept.hold(want, "it"))
    os.kill(lease.pid, signal.SIGKILL)
    await tools.until(lambda: kept.gone["it"])
    lease.release()
    assert kept.gone == {"it": 1}


async def test_a_load_that_fails_lets_go_of_it(
    start_scheduler: Start, tools: Any, kept: Kept
) -> None:
    scheduler = start_scheduler(budget_bytes=10)
    want = tools.want(memory_bytes=60)
    with pytest.raises(CorralError):
        await scheduler.acquire(want, None, kept.hold(want, "it"))
    assert kept.gone == {"it": 1}


async def test_who_leaves_while_it_loads_leaves_it_with_the_worker(
    start_scheduler: Start, tools: Any, kept: Kept
) -> None:
    scheduler = start_scheduler()
    want = tools.want(echo_load_ms=600_000)
    task = asyncio.create_task(scheduler.acquire(want, None, kept.hold(want, "it")))
    await tools.until(lambda: want.key in scheduler._instances)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert kept.gone == {}
    await scheduler.close()
    await tools.until(lambda: kept.gone["it"])
    assert kept.gone == {"it": 1}


async def test_it_is_handed_on_to_who_waits_for_the_next_worker(
    start_scheduler: Start, tools: Any, kept: Kept
) -> None:
    scheduler = start_scheduler()
    want, other = tools.want(), tools.want(echo_load_ms=1)
    lease = await scheduler.acquire(want, 10**12, kept.hold(want, "it"))
    waiting = asyncio.create_task(scheduler.acquire(other, 10**12))  # it has to be loaded anew
    await tools.until(lambda: len(scheduler._waiting) == 1)
    lease.release()
    (await waiting).release()
    assert kept.gone == {}
    scheduler.expire(want.key)
    await tools.until(lambda: kept.gone["it"])
