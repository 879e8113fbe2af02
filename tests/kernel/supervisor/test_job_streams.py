import asyncio
import contextlib
from typing import Any

import pytest

from corral_kernel.errors import CancelledJobError, CorralError, RemoteJobError, WorkerError
from corral_kernel.frames import Accepted, Done, Failed, Text, TokenLogprob
from corral_kernel.supervisor import JobLimits, JobStream

NEVER = float("inf")


class Control:
    """Notes what a stream asks of its worker."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def cancel(self, job_id: int) -> None:
        self.asked.append(f"cancel {job_id}")

    def pause(self, job_id: int) -> None:
        self.asked.append(f"pause {job_id}")

    def resume(self, job_id: int) -> None:
        self.asked.append(f"resume {job_id}")


def stream(**limits: Any) -> tuple[JobStream, Control]:
    control = Control()
    return JobStream(1, control, JobLimits(**{"stall_s": NEVER, **limits})), control


def text(content: str = "", thinking: str = "", tokens: int = 0) -> Text:
    logprobs = tuple(TokenLogprob(f"t{n}", b"", -1.0) for n in range(tokens))
    return Text(job_id=1, content=content, thinking=thinking, logprobs=logprobs)


async def read(job: JobStream) -> list[Any]:
    return [event async for event in job]


async def test_events_come_in_order_and_end_with_done() -> None:
    job, control = stream()
    events = [Accepted(job_id=1, prompt_tokens=1), text("a"), Done(job_id=1, reason="stop")]
    for event in events:
        job.put(event)
    assert await read(job) == events
    assert await read(job) == []
    assert control.asked == []


async def test_a_reader_that_waits_is_woken() -> None:
    job, _ = stream()
    reader = asyncio.create_task(read(job))
    await asyncio.sleep(0)
    job.put(text("a"))
    await asyncio.sleep(0)
    job.put(Done(job_id=1, reason="stop"))
    assert [type(event) for event in await reader] == [Text, Done]


async def test_what_came_before_a_failure_can_still_be_read() -> None:
    job, _ = stream()
    job.put(text("a"))
    job.put(Failed(job_id=1, code="engine", message="broke"))
    assert (await anext(job)) == text("a")
    with pytest.raises(RemoteJobError, match="broke") as caught:
        await anext(job)
    assert caught.value.remote_code == "engine"


async def test_nothing_comes_after_the_end() -> None:
    job, _ = stream()
    job.put(Done(job_id=1, reason="stop"))
    job.put(text("late"))
    job.fail(WorkerError("late"))
    assert [type(event) for event in await read(job)] == [Done]


async def test_the_end_is_told_once_also_to_who_comes_late() -> None:
    job, _ = stream()
    told: list[str] = []
    job.on_end(lambda: told.append("early"))
    job.fail(WorkerError("gone"))
    job.put(Done(job_id=1, reason="stop"))
    job.on_end(lambda: told.append("late"))
    assert told == ["early", "late"]


async def test_a_cancel_is_sent_once_and_the_worker_s_end_is_awaited() -> None:
    job, control = stream()
    job.cancel()
    job.cancel(WorkerError("another reason"))
    assert control.asked == ["cancel 1"]
    assert not job.ended
    job.put(Failed(job_id=1, code="cancelled", message=""))
    with pytest.raises(CancelledJobError, match="request canceled"):
        await anext(job)
    job.cancel()
    assert control.asked == ["cancel 1"]


async def test_a_job_that_is_done_before_its_cancel_arrives_is_done() -> None:
    job, _ = stream()
    job.cancel()
    job.put(Done(job_id=1, reason="stop"))
    assert [type(event) for event in await read(job)] == [Done]


@pytest.mark.parametrize(
    ("pieces", "want"),
    [
        ([text("a"), text("b"), text("c")], [("a", ""), ("bc", "")]),
        ([text("a"), text("", "x"), text("", "y")], [("a", ""), ("", "xy")]),
        ([text("a"), text("", "x"), text("b"), text("c")], [("a", ""), ("bc", "x")]),
        ([text("a"), text("b"), text("", "x")], [("a", ""), ("b", ""), ("", "x")]),
    ],
    ids=["content", "thinking", "thinking before content", "thinking after content stays apart"],
)
async def test_unread_text_is_merged(pieces: list[Text], want: list[tuple[str, str]]) -> None:
    job, _ = stream(merge_after=2)
    for piece in pieces:
        job.put(piece)
    job.put(Done(job_id=1, reason="stop"))
    got = await read(job)
    assert [(event.content, event.thinking) for event in got[:-1]] == want


async def test_merged_text_keeps_every_logprob_in_order() -> None:
    job, _ = stream(merge_after=1)
    for n in range(50):
        job.put(text(str(n), tokens=n % 3))
    job.put(Done(job_id=1, reason="stop"))
    got = await read(job)
    assert len(got) == 2
    assert got[0].content == "".join(map(str, range(50)))
    assert len(got[0].logprobs) == sum(n % 3 for n in range(50))


@pytest.mark.parametrize("tokens", [0, 4], ids=["text", "logprobs"])
async def test_a_job_is_paused_when_its_reader_falls_behind_and_resumed_when_it_catches_up(
    tokens: int,
) -> None:
    job, control = stream(merge_after=3, pause_at=20)
    cost = 1 + tokens
    for _ in range(20 // cost - 1):
        job.put(text("a", tokens=tokens))
    assert control.asked == []
    for _ in range(30):
        job.put(text("a", tokens=tokens))
    assert control.asked == ["pause 1"]
    while control.asked == ["pause 1"]:
        await anext(job)
    assert control.asked == ["pause 1", "resume 1"]
    for _ in range(30):
        job.put(text("a", tokens=tokens))
    assert control.asked == ["pause 1", "resume 1", "pause 1"]


async def test_a_paused_job_is_cancelled_when_nothing_is_read_for_a_while() -> None:
    job, control = stream(pause_at=2, stall_s=0.02)
    for _ in range(3):
        job.put(text("a"))
    async with asyncio.timeout(60):
        while control.asked != ["pause 1", "cancel 1"]:  # noqa: ASYNC110 - a note sets no event
            await asyncio.sleep(0.005)
    job.put(Failed(job_id=1, code="cancelled", message=""))
    with pytest.raises(CancelledJobError, match=r"nothing of the answer was read for 0\.02 s"):
        await read(job)


async def test_a_reader_that_is_slow_but_reads_is_not_cancelled() -> None:
    job, control = stream(pause_at=8, merge_after=100, stall_s=60)
    for _ in range(100):
        job.put(text("a"))
    watches = [job._stall]
    for _ in range(6):
        await anext(job)
        watches.append(job._stall)
    # Each piece that is read begins the time anew.
    assert [watch.cancelled() for watch in watches] == [True] * 6 + [False]
    assert control.asked == ["pause 1"]
    job.fail(WorkerError("over"))


@pytest.mark.parametrize("end", [Done(job_id=1, reason="stop"), None], ids=["done", "failed"])
async def test_an_ended_job_is_not_watched_any_more(end: Done | None) -> None:
    job, control = stream(pause_at=2, stall_s=0.01)
    for _ in range(3):
        job.put(text("a"))
    if end:
        job.put(end)
    else:
        job.fail(WorkerError("gone"))
    await asyncio.sleep(0.05)
    assert control.asked == ["pause 1"]
    with contextlib.suppress(CorralError):
        await read(job)
    assert control.asked == ["pause 1"]
