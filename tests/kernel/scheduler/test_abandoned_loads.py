"""A load that nobody waits for any more goes on, so that impatient clients get their model one day;
but it stands in nobody's way."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from corral_kernel.scheduler import Lease, Scheduler, State, Want

Start = Callable[..., Scheduler]


async def abandoned(scheduler: Scheduler, tools: Any, want: Want) -> Any:
    """Begin to load a model and leave; its instance."""
    task = asyncio.create_task(scheduler.acquire(want, None))
    await tools.until(lambda: want.key in scheduler._instances)
    instance = scheduler._instances[want.key]
    await tools.until(lambda: instance.worker is not None)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert instance.state is State.STARTING
    return instance


def endless(tools: Any, name: str = "endless", **options: Any) -> Want:
    want: Want = tools.want(name, echo_load_ms=600_000, **options)
    return want


async def served(scheduler: Scheduler, want: Want) -> Lease:
    async with asyncio.timeout(60):
        return await scheduler.acquire(want, None)


async def test_a_client_that_gave_up_finds_its_model_when_it_comes_again(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    want = tools.want(echo_load_ms=300)
    instance = await abandoned(scheduler, tools, want)
    lease = await served(scheduler, want)
    assert lease._instance is instance
    lease.release()


@pytest.mark.parametrize(
    "limits", [{"max_loaded": 1}, {"budget_bytes": 100}], ids=["models", "memory"]
)
async def test_it_makes_room_at_once_for_who_needs_it(
    start_scheduler: Start, tools: Any, limits: dict[str, int]
) -> None:
    scheduler = start_scheduler(**limits)
    instance = await abandoned(scheduler, tools, endless(tools, memory_bytes=60))
    lease = await served(scheduler, tools.want("other", memory_bytes=60))
    assert instance.state is State.GONE
    assert instance.worker.gone.done()
    lease.release()


async def test_it_goes_before_an_idle_model(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler(max_loaded=2)
    (await scheduler.acquire(tools.want("idle"), 10**12)).release()
    await abandoned(scheduler, tools, endless(tools))
    (await served(scheduler, tools.want("other"))).release()
    assert sorted(i.want.key for i in scheduler.running()) == ["idle", "other"]


async def test_a_load_that_somebody_waits_for_is_no_victim(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_loaded=1)
    order: list[str] = []

    async def use(want: Want) -> None:
        (await served(scheduler, want)).release()
        order.append(want.key)

    wants = tools.want("first", echo_load_ms=200), tools.want("second")
    await asyncio.gather(*map(use, wants))
    assert order == ["first", "second"]


async def test_who_wants_it_loaded_otherwise_does_not_wait_for_its_end(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    instance = await abandoned(scheduler, tools, endless(tools, "one"))
    lease = await served(scheduler, tools.want("one"))
    assert lease._instance is not instance
    assert lease.warnings == ()  # nothing that anybody used was loaded anew
    lease.release()


async def test_to_unload_it_ends_it(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler()
    instance = await abandoned(scheduler, tools, endless(tools))
    scheduler.expire("endless")
    await tools.until(lambda: instance.state is State.GONE)
    assert instance.worker.gone.done()


async def test_one_without_a_worker_yet_ends_as_soon_as_it_has_one(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_loaded=1)
    leaving = asyncio.create_task(scheduler.acquire(endless(tools), None))
    await asyncio.sleep(0)
    instance = scheduler._instances["endless"]
    assert instance.worker is None
    leaving.cancel()
    (await served(scheduler, tools.want("other"))).release()
    assert instance.worker.gone.done()


async def test_who_comes_while_it_is_being_ended_gets_it_loaded_anew(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    want = tools.want(echo_load_ms=300)
    instance = await abandoned(scheduler, tools, want)
    scheduler.expire("one")
    lease = await served(scheduler, want)
    assert lease._instance is not instance
    assert instance.worker.gone.done()
    lease.release()
    assert not scheduler._deaths._times  # to be ended is no death
