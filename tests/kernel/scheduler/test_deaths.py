"""What a worker's death costs: its own jobs at most, once more before their first piece."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from corral_kernel.errors import WorkerDiedError, WorkerHungError
from corral_kernel.frames import Text
from corral_kernel.scheduler import Scheduler
from corral_kernel.scheduler.deaths import Deaths

Start = Callable[..., Any]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models whose loading begins."""
    names: list[str] = []
    begin = Scheduler._begin

    def noting(self: Scheduler, waiter: Any, slots: int) -> None:
        names.append(waiter.want.model.name.model)
        begin(self, waiter, slots)

    monkeypatch.setattr(Scheduler, "_begin", noting)
    return names


async def test_a_job_whose_worker_dies_before_its_first_piece_is_run_once_more(
    start_kernel: Start, tools: Any, begun: list[str]
) -> None:
    kernel = await start_kernel()
    kernel.create("slow", echo_step_ms=40, num_batch=8, num_predict=20)
    asking = asyncio.create_task(kernel.ask("slow", "x" * 160))
    await tools.until(lambda: any(i.leases for i in kernel.scheduler.running()))
    os.kill(kernel.pid(), signal.SIGKILL)
    assert await asking == "x" * 20
    assert begun == ["slow", "slow"]


async def test_all_jobs_of_a_worker_that_dies_early_are_run_once_more_on_one_new_worker(
    start_kernel: Start, tools: Any, begun: list[str]
) -> None:
    kernel = await start_kernel(NUM_PARALLEL="3")
    kernel.create("slow", echo_step_ms=10, num_batch=4, num_predict=20)
    asking = [asyncio.create_task(kernel.ask("slow", "x" * 160)) for _ in range(5)]
    await tools.until(lambda: any(i.leases == 3 for i in kernel.scheduler.running()))
    os.kill(kernel.pid(), signal.SIGKILL)
    assert await asyncio.gather(*asking) == ["x" * 20] * 5
    assert begun == ["slow", "slow"]


async def test_a_second_death_is_the_answer_and_the_next_request_works(
    start_kernel: Start, begun: list[str]
) -> None:
    kernel = await start_kernel()
    kernel.create("m", echo_die_at=1, echo_die_prompt="poison")
    with pytest.raises(WorkerDiedError) as caught:
        await kernel.ask("m", "poison")
    assert caught.value.exit_status == -signal.SIGKILL
    assert begun == ["m", "m"]
    assert await kernel.ask("m", "food") == "food"


async def test_a_death_after_the_first_piece_is_the_answer(
    start_kernel: Start, begun: list[str]
) -> None:
    kernel = await start_kernel(STREAM_INTERVAL="0")  # each piece is sent at once
    kernel.create("m", echo_die_at=5, echo_die_prompt="a")
    completion = await kernel.begin("m", "a" * 50)
    got: list[Text] = []

    async def read() -> None:
        async for event in completion:
            got.append(event)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(WorkerDiedError):
        await read()
    assert "".join(event.content for event in got) == "a" * 4
    assert begun == ["m"]
    assert await kernel.ask("m", "b") == "b"


async def test_a_death_costs_no_other_model_anything(start_kernel: Start, tools: Any) -> None:
    kernel = await start_kernel()
    kernel.create("a", echo_step_ms=5)
    kernel.create("b", echo_step_ms=5)
    other = await kernel.begin("b", "xy" * 30)
    completion = await kernel.begin("a", "xy" * 1000)
    os.kill(kernel.pid("a"), signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        async for _ in completion:
            pass
    assert "".join([e.content async for e in other if isinstance(e, Text)]) == "xy" * 30


async def test_a_job_that_hangs_is_tried_on_a_second_worker_and_then_fails(
    start_kernel: Start, begun: list[str]
) -> None:
    kernel = await start_kernel(STEP_TIMEOUT="500ms")
    kernel.create("m", echo_hang_at=1)
    with pytest.raises(WorkerHungError):
        await kernel.ask("m")
    assert begun == ["m", "m"]


async def test_a_real_engine_is_replaced_as_echo_is_and_answers_the_same(
    start_kernel: Start, tools: Any, begun: list[str]
) -> None:
    kernel = await start_kernel(PLUGINS="llamacpp,chat")
    kernel.create("tiny", backend="llamacpp", num_thread=1, temperature=0)
    prompt = "<|im_start|>user\ncount to five<|im_end|>\n<|im_start|>assistant\n"
    answer = await kernel.ask("tiny", prompt)
    assert answer == "one two three four five."
    os.kill(kernel.pid(), signal.SIGSTOP)  # or it might have answered before it is killed
    asking = [asyncio.create_task(kernel.ask("tiny", prompt)) for _ in range(6)]
    await tools.until(lambda: any(i.leases == 4 for i in kernel.scheduler.running()))
    os.kill(kernel.pid(), signal.SIGKILL)
    assert await asyncio.gather(*asking) == [answer] * 6
    assert await kernel.ask("tiny", prompt) == answer
    assert begun == ["tiny", "tiny"]


async def test_a_model_whose_workers_keep_dying_rests_a_while(
    start_scheduler: Start, tools: Any, begun: list[str]
) -> None:
    scheduler = start_scheduler(deaths=Deaths(most=3, within_s=60, rest_s=1.0))
    bad = tools.want("bad", echo_load_dies=True)
    for _ in range(3):
        with pytest.raises(WorkerDiedError) as caught:
            await scheduler.acquire(bad, None)
        assert caught.value.exit_status == -signal.SIGKILL
    with pytest.raises(WorkerDiedError, match="3 workers of it died within 60 s, retry in 1 s: "):
        await scheduler.acquire(bad, None)
    assert begun == ["bad"] * 3
    (await scheduler.acquire(tools.want("good"), None)).release()
    await asyncio.sleep(1.0)  # it rests
    with pytest.raises(WorkerDiedError) as caught:
        await scheduler.acquire(bad, None)
    assert caught.value.exit_status == -signal.SIGKILL


async def test_requests_that_wait_when_a_model_begins_to_rest_hear_it_too(
    start_scheduler: Start, tools: Any, begun: list[str]
) -> None:
    scheduler = start_scheduler(deaths=Deaths(most=1, within_s=60, rest_s=60))
    want = tools.want("m", slots=1, echo_fail_at=1)
    lease = await scheduler.acquire(want, None)
    later = [asyncio.create_task(scheduler.acquire(want, None)) for _ in range(3)]
    with pytest.raises(WorkerDiedError, match="echo was told to fail in this step"):
        await tools.text_of(lease.submit(tools.generate()))
    for task in later:
        with pytest.raises(WorkerDiedError, match="retry in 60 s: RuntimeError: echo was told"):
            await task
    assert begun == ["m"]


@pytest.mark.parametrize(
    ("most", "within_s", "rests"), [(2, 60.0, True), (3, 60.0, False), (2, 0.0, False)]
)
def test_deaths_count_within_a_time(tools: Any, most: int, within_s: float, *, rests: bool) -> None:
    deaths, want = Deaths(most, within_s, rest_s=60), tools.want()
    for words in ("first", "last"):
        deaths.record(want, words)
    if rests:
        with pytest.raises(WorkerDiedError, match="last"):
            deaths.check(want)
    else:
        deaths.check(want)
    deaths.check(tools.want("other"))
