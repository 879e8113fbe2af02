"""Loading and unloading many times leaves nothing behind."""

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

CYCLES = 80
AT_ONCE = 4


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def own_threads() -> int:
    """Threads, less those of the event loop's pool, which grows to a bound of its own."""
    return sum(not thread.name.startswith("asyncio") for thread in threading.enumerate())


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_many_loads_leave_no_memory_descriptor_thread_or_process(
    start_kernel: Callable[..., Any], tools: Any
) -> None:
    process = psutil.Process()
    servers = process.children()  # of other tests
    kernel = await start_kernel(MAX_LOADED_MODELS=str(AT_ONCE))

    def workers() -> list[psutil.Process]:
        return [child for child in process.children() if child not in servers]

    async def rounds(name: str, count: int) -> None:
        for n in range(count):
            kernel.create(name)  # made anew each time
            text = f"{name} {n}"
            assert await kernel.ask(name, text, keep_alive_ns=0) == text

    async def cycles(count: int) -> tuple[int, int, int]:
        each = count // AT_ONCE
        await asyncio.gather(*(rounds(f"m{n}", each) for n in range(AT_ONCE)))
        await tools.until(lambda: not kernel.scheduler._instances)
        gc.collect()
        return descriptors(), own_threads(), process.memory_info().rss

    spare = 1
    before = await cycles(20)
    after = await cycles(CYCLES - 20)
    await tools.until(lambda: len(workers()) <= spare)
    assert all(worker.status() != psutil.STATUS_ZOMBIE for worker in workers())
    # A spare worker, which may or may not be there just now, has a channel and an output.
    assert after[0] <= before[0] + 2 * spare
    assert after[1] <= before[1]
    assert after[2] - before[2] < 4 << 20
    await tools.until(lambda: not kernel.scheduler._tasks)
