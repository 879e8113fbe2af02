"""Who has a loaded model loaded anew hears it; who merely waits for that does not."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from corral_kernel.scheduler import Scheduler
from corral_kernel.scheduler.want import reload_warning

Start = Callable[..., Scheduler]


async def warnings(scheduler: Scheduler, want: Any) -> tuple[str, ...]:
    lease = await scheduler.acquire(want, None)
    lease.release()
    return lease.warnings


async def test_only_the_request_that_causes_a_reload_is_warned(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler()
    old, new = tools.want(num_thread=1), tools.want(num_thread=2)
    assert await warnings(scheduler, old) == ()
    assert await warnings(scheduler, old) == ()
    told = await asyncio.gather(*(warnings(scheduler, new) for _ in range(3)))
    assert [len(words) for words in told] == [1, 0, 0]
    assert "(num_thread 2 instead of 1)" in told[0][0]
    assert await warnings(scheduler, new) == ()
    assert "(num_thread 1 instead of 2)" in (await warnings(scheduler, old))[0]


async def test_a_model_that_is_evicted_and_loaded_again_is_no_reload(
    start_scheduler: Start, tools: Any
) -> None:
    scheduler = start_scheduler(max_loaded=1)
    for name in "abab":
        assert await warnings(scheduler, tools.want(name)) == ()


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"num_ctx": 64, "automatic": ()}, "num_ctx 64 instead of 4096"),
        ({"num_batch": 8, "automatic": ()}, "num_batch 8 instead of 512"),
        ({"num_gpu": 7}, "num_gpu 7 instead of -1"),
        ({"use_mmap": False}, "use_mmap false instead of unset"),
        ({"echo_step_ms": 3, "num_thread": 2}, "echo_step_ms 3 instead of 0, num_thread 2 inst"),
    ],
    ids=["num_ctx", "num_batch", "num_gpu", "use_mmap", "two"],
)
def test_the_options_that_differ_are_named(tools: Any, asked: dict[str, Any], named: str) -> None:
    words = reload_warning(tools.want(**asked), tools.want())
    assert f"({named}" in words
    assert words.startswith("the model was loaded anew for this request")


def test_another_backend_is_named(tools: Any) -> None:
    want = tools.want()
    other = msgspec.structs.replace(want, claim=msgspec.structs.replace(want.claim, backend="b"))
    assert "(backend 'b' instead of 'echo')" in reload_warning(other, want)
