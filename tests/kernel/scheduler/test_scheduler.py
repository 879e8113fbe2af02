"""Leases, slots, the queue, keep-alive, reloading, eviction: with real workers of echo."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from corral_kernel.durations import FOREVER
from corral_kernel.errors import (
    CorralError,
    OutOfMemoryError,
    QueueFullError,
    RemoteJobError,
    ShuttingDownError,
)
from corral_kernel.scheduler import Lease, Scheduler, State, Want
from corral_kernel.scheduler.loading import load_on

MS = 1_000_000
S = 1000 * MS
Start = Callable[..., Scheduler]


async def use(scheduler: Scheduler, want: Want, keep_alive_ns: int | None = None) -> Any:
    """Take a lease and give it back; its instance."""
    lease = await scheduler.acquire(want, keep_alive_ns)
    instance = lease._instance
    lease.release()
    return instance


def names(scheduler: Scheduler) -> list[str]:
    return sorted(instance.want.model.name.model for instance in scheduler.running())


async def waiting(scheduler: Scheduler, *wants: Want) -> list[asyncio.Task[Lease]]:
    """Requests that have come to the scheduler, in this order."""
    tasks = [asyncio.create_task(scheduler.acquire(want, None)) for want in wants]
    await asyncio.sleep(0)
    return tasks


# --------------------------------------------------------------------------------------- slots


async def test_a_model_is_loaded_once_and_its_slots_are_given_in_order(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    tasks = await waiting(scheduler, *[tools.want(slots=2)] * 5)
    first, second = await asyncio.gather(*tasks[:2])
    assert first._instance is second._instance
    for n in (2, 3, 4):
        assert not any(task.done() for task in tasks[n:])
        first.release()
        first = await tasks[n]
    first.release()
    second.release()
    first.release()  # a second time does nothing
    assert first._instance.leases == 0


async def test_with_eight_slots_and_a_queue_of_one_a_ninth_waits_and_a_tenth_is_refused(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_queue=1)
    tasks = await waiting(scheduler, *[tools.want(slots=8)] * 8)
    leases = await asyncio.gather(*tasks)
    (ninth,) = await waiting(scheduler, tools.want(slots=8))
    assert not ninth.done()
    with pytest.raises(QueueFullError, match="maximum pending requests exceeded"):
        await scheduler.acquire(tools.want(slots=8), None)
    leases[3].release()
    await ninth
    (again,) = await waiting(scheduler, tools.want(slots=8))
    assert not again.done()
    leases[0].release()
    await again


@pytest.mark.parametrize("first", ["nothing", "an idle model", "a busy model", "itself"])
async def test_slots_of_a_model_that_comes_are_no_queue(
    start_scheduler: Start, tools: Any, first: str
) -> None:
    scheduler = start_scheduler(max_queue=1, max_loaded=1)
    lease = None
    if first != "nothing":
        name = "one" if first == "itself" else "other"
        lease = await scheduler.acquire(tools.want(name), 0 if first == "itself" else None)
        if first != "a busy model":
            lease.release()
    tasks = await waiting(scheduler, *[tools.want(slots=2)] * 3)
    with pytest.raises(QueueFullError):
        await scheduler.acquire(tools.want(slots=2), None)
    with pytest.raises(QueueFullError):
        await scheduler.acquire(tools.want("third", slots=2), None)
    if lease is not None:
        lease.release()
    for lease in await asyncio.gather(*tasks[:2]):
        lease.release()
    (await tasks[2]).release()


@pytest.mark.parametrize(
    ("case", "got"),
    [((8, 0, 0), 8), ((8, 3, 0), 3), ((None, 0, 0), 4), ((None, 2, 0), 2), ((None, 0, 50_000), 1)],
    ids=["as asked", "the claim's", "automatic", "automatic, the claim's", "by memory"],
)
async def test_slots_are_chosen_by_request_claim_and_memory(
    start_scheduler: Start, tools: Any, case: tuple[int | None, int, int], got: int
) -> None:
    asked, claimed, per_token = case
    scheduler = start_scheduler()
    want = tools.want(slots=asked)
    claim = tools.claim(slots=claimed, per_token_bytes=per_token)
    want = msgspec.structs.replace(want, claim=claim)
    instance = await use(scheduler, want)
    assert instance.slots == got
    assert instance.info.slots == got


# ---------------------------------------------------------------------------------- keep-alive


async def test_an_idle_model_expires(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler()
    instance = await use(scheduler, tools.want(), 30 * MS)
    await tools.until(lambda: not scheduler.running())
    assert instance.state is State.GONE
    assert instance.worker.gone.done()


@pytest.mark.parametrize(
    ("default", "requests", "last"),
    [
        (300 * S, (None, None), 300 * S),
        (300 * S, (60 * S, None), 60 * S),
        (300 * S, (-1, None), FOREVER),
        (300 * S, (60 * S, -5 * S), FOREVER),
        (300 * S, (-1, 10 * S), 10 * S),
        (FOREVER, (None, None), FOREVER),
    ],
    ids=["default", "kept", "forever is kept", "negative", "finite again", "default forever"],
)
async def test_keep_alive_changes_only_with_requests_that_carry_it(
    start_scheduler: Start, tools: Any, default: int, requests: tuple[int | None, ...], last: int
) -> None:
    scheduler = start_scheduler(keep_alive_ns=default)
    for keep_alive_ns in requests:
        instance = await use(scheduler, tools.want(), keep_alive_ns)
    assert instance.keep_alive_ns == last
    assert (instance.expires_at is None) == (last == FOREVER)
    assert (instance.timer is None) == (last == FOREVER)


async def test_with_a_keep_alive_of_zero_a_model_goes_after_the_request(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    lease = await scheduler.acquire(tools.want(), 0)
    assert names(scheduler) == ["one"]
    other = await scheduler.acquire(tools.want(), None)
    lease.release()
    assert other._instance.state is State.READY
    other.release()
    assert other._instance.state is State.DRAINING
    await tools.until(lambda: not scheduler.running())


async def test_a_request_during_the_countdown_stops_it(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler()
    instance = await use(scheduler, tools.want(), 100 * MS)
    lease = await scheduler.acquire(tools.want(), None)
    assert lease._instance is instance
    done, _ = await asyncio.wait([instance.worker.gone], timeout=0.3)
    assert not done
    lease.release()
    await tools.until(lambda: not scheduler.running())


async def test_a_request_that_meets_an_expiring_model_loads_it_anew(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    first = await use(scheduler, tools.want(), 300 * S)
    scheduler._expired(first)  # the timer, at the very moment
    second = await use(scheduler, tools.want())
    assert second is not first
    assert first.state is State.GONE


async def test_an_expiry_that_comes_after_a_request_does_nothing(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    lease = await scheduler.acquire(tools.want(), None)
    scheduler._expired(lease._instance)
    assert lease._instance.state is State.READY
    lease.release()


async def test_unloading_an_idle_model_ends_it_at_once(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler()
    instance = await use(scheduler, tools.want(), -1)
    scheduler.expire("one")
    await tools.until(lambda: not scheduler.running())
    assert instance.worker.gone.done()
    scheduler.expire("one")  # nothing is there
    scheduler.expire("never loaded")


async def test_a_busy_model_that_is_unloaded_serves_on_until_nobody_uses_it(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    lease = await scheduler.acquire(tools.want(), -1)
    scheduler.expire("one")
    later = await scheduler.acquire(tools.want(), None)
    assert later._instance is lease._instance
    stream = lease.submit(tools.generate("still here"))
    assert await tools.text_of(stream) == "still here"
    assert names(scheduler) == ["one"]
    later.release()
    await tools.until(lambda: not scheduler.running())


async def test_unloading_a_model_that_loads_ends_it_after_the_requests_that_wait(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    (task,) = await waiting(scheduler, tools.want())
    scheduler.expire("one")
    lease = await task
    assert lease._instance.state is State.READY
    lease.release()
    await tools.until(lambda: not scheduler.running())


# ----------------------------------------------------------------------------- loading anew


BASE = {"num_ctx": 4096, "automatic": ()}


@pytest.mark.parametrize(
    ("loaded", "asked", "same"),
    [
        ({}, {}, True),
        (BASE, {**BASE, "num_ctx": 8192}, False),
        (BASE, {"num_ctx": 4096}, True),
        ({"num_ctx": 4096}, {"num_ctx": 8192}, True),
        ({"num_batch": 512}, {"num_batch": 1024}, True),
        ({"num_batch": 512}, {"num_batch": 1024, "automatic": ()}, False),
        ({"num_gpu": 10}, {"num_gpu": -1}, True),
        ({"num_gpu": -1}, {"num_gpu": 10}, False),
        ({"num_gpu": 10}, {"num_gpu": 11}, False),
        ({"use_mmap": True}, {}, True),
        ({"use_mmap": True}, {"use_mmap": False}, False),
        ({}, {"num_thread": 3}, False),
        ({}, {"main_gpu": 0}, False),
        ({}, {"draft_num_predict": 2}, False),
        ({}, {"echo_step_ms": 1}, False),
    ],
    ids=[
        "nothing",
        "num_ctx",
        "num_ctx explicit and equal",
        "num_ctx automatic both times",
        "num_batch automatic both times",
        "num_batch",
        "num_gpu automatic",
        "num_gpu explicit now",
        "num_gpu",
        "use_mmap automatic",
        "use_mmap",
        "num_thread",
        "main_gpu",
        "draft_num_predict",
        "a backend's own",
    ],
)
def test_a_model_is_loaded_anew_only_when_load_options_change(
    tools: Any, loaded: dict[str, Any], asked: dict[str, Any], *, same: bool
) -> None:
    assert tools.want(**asked).is_served_by(tools.want(**loaded)) is same


async def test_other_load_options_replace_a_busy_model_after_its_requests_in_order_of_arrival(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    old, new = tools.want(), tools.want(num_thread=2)
    lease = await scheduler.acquire(old, None)
    changing, back = await waiting(scheduler, new, old)
    assert lease._instance.state is State.DRAINING
    lease.release()
    second = await changing
    assert second._instance.want is new
    assert not back.done()
    second.release()
    third = await back
    assert third._instance.want is old
    third.release()
    assert len({id(x._instance) for x in (lease, second, third)}) == 3


async def test_two_names_of_the_same_weights_share_a_worker(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    first = await use(scheduler, tools.want("a", key="sha256:x"))
    second = await use(scheduler, tools.want("b", key="sha256:x"))
    assert first is second
    assert names(scheduler) == ["a"]
    scheduler.expire("sha256:x")
    await tools.until(lambda: not scheduler.running())


def test_another_backend_for_the_same_weights_is_another_load(tools: Any) -> None:
    want = tools.want()
    other = msgspec.structs.replace(want.claim, backend="other")
    assert not msgspec.structs.replace(want, claim=other).is_served_by(want)
    assert not msgspec.structs.replace(want, plugin="other").is_served_by(want)


# ------------------------------------------------------------------------------------ eviction


async def test_over_the_bound_the_shortest_keep_alive_goes_then_the_least_recently_used(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_loaded=3)
    for name, keep in (("long", 900 * S), ("old", 300 * S), ("recent", 300 * S)):
        await use(scheduler, tools.want(name), keep)
    await use(scheduler, tools.want("d"), 900 * S)
    assert names(scheduler) == ["d", "long", "recent"]
    await use(scheduler, tools.want("e"), 900 * S)
    assert names(scheduler) == ["d", "e", "long"]
    await use(scheduler, tools.want("long"))
    await use(scheduler, tools.want("f"), -1)
    assert names(scheduler) == ["e", "f", "long"]


async def test_an_idle_model_goes_before_a_busy_one(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler(max_loaded=2)
    busy = await scheduler.acquire(tools.want("busy"), 1 * S)
    await use(scheduler, tools.want("idle"), -1)
    await use(scheduler, tools.want("new"))
    assert names(scheduler) == ["busy", "new"]
    busy.release()


async def test_memory_counts_until_the_process_is_gone(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler(budget_bytes=100)
    first = await use(scheduler, tools.want("a", memory_bytes=60), -1)
    (task,) = await waiting(scheduler, tools.want("b", memory_bytes=60))
    assert first.state is State.DRAINING
    assert "b" not in scheduler._instances
    lease = await task
    assert first.worker.gone.done()
    lease.release()


async def test_models_that_fit_stay_together_and_only_as_many_go_as_must(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(budget_bytes=100, max_loaded=5)
    for name, size in (("a", 30), ("b", 30), ("c", 30)):
        await use(scheduler, tools.want(name, memory_bytes=size))
    await use(scheduler, tools.want("d", memory_bytes=60))
    assert names(scheduler) == ["c", "d"]


async def test_what_the_engine_says_it_takes_counts_once_it_is_loaded(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(budget_bytes=100)
    first = await use(scheduler, tools.want("a", memory_bytes=10, echo_memory_bytes=80))
    assert first.memory_bytes == 80
    await use(scheduler, tools.want("b", memory_bytes=30))
    assert names(scheduler) == ["b"]


async def test_a_model_over_the_budget_fails_at_once_and_evicts_nobody(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(budget_bytes=2 << 30)
    await use(scheduler, tools.want("small", memory_bytes=1 << 30))
    with pytest.raises(OutOfMemoryError, match=r"\(3\.5 GiB\) than is available \(2\.0 GiB\)"):
        await scheduler.acquire(tools.want("big", memory_bytes=7 << 29), None)
    assert names(scheduler) == ["small"]


async def test_a_victim_that_keeps_getting_requests_is_evicted_all_the_same(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_loaded=1)
    leases = [await scheduler.acquire(tools.want("busy"), None) for _ in range(2)]
    (other,) = await waiting(scheduler, tools.want("other"))
    later = []
    for lease in leases:
        later += await waiting(scheduler, tools.want("busy"))
        lease.release()
    lease = await other
    assert not any(task.done() for task in later)
    lease.release()
    for lease in await asyncio.gather(*later):
        lease.release()


async def test_two_models_that_alternate_are_served_in_batches(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_loaded=1)
    loads = []
    begin = scheduler._begin
    scheduler._begin = lambda waiter, slots: (
        loads.append(waiter.want.model.name.model),
        begin(waiter, slots),
    )

    async def request(n: int) -> None:
        lease = await scheduler.acquire(tools.want("ab"[n % 2], slots=2), None)
        stream = lease.submit(tools.generate("x" * 5))
        assert await tools.text_of(stream) == "x" * 5

    await asyncio.gather(*(request(n) for n in range(20)))
    assert loads == ["a", "b"]


async def test_models_that_evict_each_other_all_make_progress(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_loaded=1)
    served = dict.fromkeys("ab", 0)

    async def client(name: str) -> None:
        for _ in range(3):
            lease = await scheduler.acquire(tools.want(name, slots=1), None)
            await tools.text_of(lease.submit(tools.generate("x")))
            served[name] += 1

    await asyncio.gather(*(client(name) for name in "aabb"))
    assert served == {"a": 6, "b": 6}


async def test_who_waited_when_a_model_became_ready_is_served_before_it_is_a_victim(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_loaded=1)
    order: list[str] = []

    async def request(name: str) -> None:
        lease = await scheduler.acquire(tools.want(name, slots=1), None)
        order.append(name)
        await tools.text_of(lease.submit(tools.generate("x")))

    tasks = [asyncio.create_task(request(name)) for name in "abababab"]
    await asyncio.gather(*tasks)
    assert order == list("aaaabbbb")


async def test_a_load_delays_nobody_who_needs_none(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler()
    await use(scheduler, tools.want("ready"))
    slow = tools.want("slow", echo_load_ms=60_000)
    (loading,) = await waiting(scheduler, slow)
    for _ in range(5):
        lease = await scheduler.acquire(tools.want("ready"), None)
        assert await tools.text_of(lease.submit(tools.generate("x"))) == "x"
    await use(scheduler, tools.want("third"))
    assert not loading.done()
    loading.cancel()


async def test_out_of_memory_at_load_evicts_what_is_idle_and_tries_once_more(
    start_scheduler: Start, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = start_scheduler()
    for name in ("a", "b"):
        await use(scheduler, tools.want(name), -1)
    attempts: list[list[str]] = []

    async def fail(worker: Any, instance: Any) -> Any:
        attempts.append(names(scheduler))
        if len(attempts) in (1, 3, 4):
            raise RemoteJobError("out_of_memory", "no room")
        return await load_on(worker, instance)

    monkeypatch.setattr("corral_kernel.scheduler.scheduler.load_on", fail)
    await use(scheduler, tools.want("big"), -1)
    assert attempts == [["a", "b"], []]
    with pytest.raises(RemoteJobError, match="no room"):
        await use(scheduler, tools.want("huge"))
    assert attempts[2:] == [["big"], []]


# ------------------------------------------------------------------------------ errors and ends


async def test_a_load_that_fails_is_the_answer_to_who_waits_for_it_alone(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    bad, good = tools.want(echo_load_fails=True), tools.want()
    tasks = await waiting(scheduler, bad, bad, good)
    for task in tasks[:2]:
        with pytest.raises(RemoteJobError, match="echo was told to fail"):
            await task
    (await tasks[2]).release()


async def test_a_client_that_leaves_while_it_waits_leaves_no_trace(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    lease = await scheduler.acquire(tools.want(slots=1), None)
    leaving, staying = await waiting(scheduler, *[tools.want(slots=1)] * 2)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert len(scheduler._waiting) == 1
    lease.release()
    (await staying).release()
    assert lease._instance.leases == 0


async def test_a_client_that_leaves_just_when_it_is_served_gives_its_slot_back(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    lease = await scheduler.acquire(tools.want(slots=1), None)
    leaving, staying = await waiting(scheduler, *[tools.want(slots=1)] * 2)
    lease.release()  # grants it to the one that leaves before it runs again
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    (await staying).release()
    assert lease._instance.leases == 0


async def test_a_client_that_leaves_while_its_model_loads_leaves_it_loaded(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    (leaving,) = await waiting(scheduler, tools.want(echo_load_ms=100))
    await tools.until(lambda: scheduler._instances["one"].worker is not None)
    leaving.cancel()
    await tools.until(lambda: names(scheduler) == ["one"])
    instance = await use(scheduler, tools.want(echo_load_ms=100))
    assert instance.leases == 0


async def test_a_client_that_leaves_while_another_s_model_drains_delays_nobody(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_loaded=1)
    lease = await scheduler.acquire(tools.want("a"), None)
    leaving, staying = await waiting(scheduler, tools.want("b"), tools.want("a"))
    leaving.cancel()
    lease.release()
    (await staying).release()


async def test_a_job_that_cannot_be_sent_costs_no_slot(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler()
    lease = await scheduler.acquire(tools.want(), None)
    with pytest.raises(CorralError, match="cannot be passed on"):
        lease.submit(tools.generate(logprobs=10**40))
    assert lease._instance.leases == 0


@pytest.mark.parametrize("when", ["starting", "loading", "running", "queued", "draining"])
async def test_closing_ends_everything_at_any_time(
    start_scheduler: Start, tools: Any, when: str
) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    want = tools.want(slots=1, echo_load_ms=60_000 if when == "loading" else 0, echo_step_ms=5)
    tasks = await waiting(scheduler, want, want)
    stream = None
    if when == "loading":
        await tools.until(lambda: scheduler._instances["one"].worker is not None)
    elif when in ("running", "queued", "draining"):
        stream = (await tasks[0]).submit(tools.generate("a" * 1000))
        await tools.first_text(stream)
    if when == "draining":
        scheduler.expire("one")
    async with asyncio.timeout(60):
        await scheduler.close()
    if stream is not None:
        with pytest.raises(ShuttingDownError):
            await tools.text_of(stream)
    for task in tasks[1:] if stream else tasks:
        with pytest.raises(ShuttingDownError):
            await task
    with pytest.raises(ShuttingDownError):
        await scheduler.acquire(want, None)


async def test_a_spare_worker_is_kept_and_taken(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    await tools.until(lambda: scheduler.spare._process is not None)
    spare = scheduler.spare._process
    instance = await use(scheduler, tools.want())
    assert instance.worker.process is spare
    await tools.until(lambda: scheduler.spare._process not in (None, spare))


async def test_a_spare_that_died_is_not_taken(start_scheduler: Start, tools: Any) -> None:
    scheduler = start_scheduler()
    scheduler.start()
    await tools.until(lambda: scheduler.spare._process is not None)
    await scheduler.spare._process.stop()
    await use(scheduler, tools.want())
