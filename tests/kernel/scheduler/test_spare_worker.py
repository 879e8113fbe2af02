"""There is always a worker that waits, whatever happens to it."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from corral_kernel.scheduler import Scheduler
from corral_kernel.supervisor import ChildProcess, spare

Start = Callable[..., Scheduler]


def waiting(scheduler: Scheduler) -> ChildProcess | None:
    return scheduler.spare._process


async def another(scheduler: Scheduler, tools: Any, than: ChildProcess | None) -> ChildProcess:
    await tools.until(lambda: waiting(scheduler) not in (None, than))
    worker = waiting(scheduler)
    assert worker is not None
    return worker


async def test_a_spare_that_is_killed_is_replaced_before_anybody_needs_it(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    first = await another(scheduler, tools, None)
    os.kill(first.pid, signal.SIGKILL)
    second = await another(scheduler, tools, first)
    assert first.gone.done()
    lease = await scheduler.acquire(tools.want(), None)
    assert lease._instance.worker.process is second
    assert await tools.text_of(lease.submit(tools.generate("hi"))) == "hi"


async def test_a_spare_whose_death_nobody_has_noticed_yet_is_not_taken(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    first = await another(scheduler, tools, None)
    os.kill(first.pid, signal.SIGKILL)
    # Blocking on purpose: the loop does not run meanwhile.
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - see above
    assert not first.lost.done()
    lease = await scheduler.acquire(tools.want(), None)
    assert lease._instance.worker.process is not first
    assert await tools.text_of(lease.submit(tools.generate("hi"))) == "hi"


async def test_a_spare_that_is_about_to_end_is_not_taken(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    first = await another(scheduler, tools, None)
    os.kill(first.pid, signal.SIGSTOP)  # as one that a signal has met, and that has not ended yet
    acquiring = asyncio.ensure_future(scheduler.acquire(tools.want(), None))
    await tools.until(lambda: waiting(scheduler) is None)
    os.kill(first.pid, signal.SIGKILL)
    lease = await acquiring
    assert lease._instance.worker.process is not first
    assert await tools.text_of(lease.submit(tools.generate("hi"))) == "hi"


async def test_a_spare_that_hangs_is_not_taken(
    start_scheduler: Start, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spare, "ANSWER_S", 0.1)
    scheduler = start_scheduler()
    scheduler.start()
    first = await another(scheduler, tools, None)
    os.kill(first.pid, signal.SIGSTOP)
    lease = await scheduler.acquire(tools.want(), None)
    assert lease._instance.worker.process is not first
    await first.gone
    assert await tools.text_of(lease.submit(tools.generate("hi"))) == "hi"


async def test_who_gives_up_while_a_spare_is_asked_ends_it(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    first = await another(scheduler, tools, None)
    os.kill(first.pid, signal.SIGSTOP)
    taking = asyncio.ensure_future(scheduler.spare.take())
    await tools.until(lambda: waiting(scheduler) is None)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await first.gone


async def test_spares_that_keep_dying_are_started_ever_more_rarely(
    start_scheduler: Start, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spare, "DELAY_S", 0.01)
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def noting(delay: float, callback: Any, *args: Any) -> Any:
        if callback == scheduler.spare._begin:
            delays.append(delay)
        return call_later(delay, callback, *args)

    monkeypatch.setattr(loop, "call_later", noting)
    scheduler = start_scheduler()
    scheduler.start()
    worker = None
    for _ in range(4):
        worker = await another(scheduler, tools, worker)
        worker.kill()
    await tools.until(lambda: len(delays) == 5)
    assert delays == [0.01, 0.02, 0.04, 0.08, 0.16]
    scheduler.spare._deaths = 1000
    scheduler.spare._timer = None
    scheduler.spare.prepare()
    assert delays[-1] == spare.MOST_DELAY_S
    scheduler.spare._timer.cancel()


async def test_a_spare_that_is_taken_ends_the_count_of_deaths(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    first = await another(scheduler, tools, None)
    first.kill()
    await another(scheduler, tools, first)
    assert scheduler.spare._deaths == 1
    (await scheduler.acquire(tools.want(), None)).release()
    assert scheduler.spare._deaths == 0


async def test_a_worker_that_was_taken_and_dies_is_no_spare(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    first = await another(scheduler, tools, None)
    lease = await scheduler.acquire(tools.want(), None)
    second = await another(scheduler, tools, first)
    lease._instance.worker.kill()
    await first.gone
    assert waiting(scheduler) is second
    lease.release()


async def test_closing_ends_a_spare_and_starts_no_other(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    first = await another(scheduler, tools, None)
    await scheduler.close()
    assert first.gone.done()
    assert waiting(scheduler) is None
    assert scheduler.spare._timer is None
