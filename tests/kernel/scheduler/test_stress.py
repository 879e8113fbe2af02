"""Requests, cancels, deaths and unloads at random; then nothing may be left of them."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from corral_kernel.errors import CorralError
from corral_kernel.frames import Text
from corral_kernel.scheduler.deaths import Deaths

Start = Callable[..., Any]
NAMES = ("a", "b", "c")
SECONDS = 2.5


class Chaos:
    """Clients and vandals of one kernel."""

    def __init__(self, kernel: Any, seed: int) -> None:
        self.kernel = kernel
        self.random = random.Random(seed)
        self.ends: Counter[str] = Counter()

    async def client(self, number: int) -> None:
        """Ask, and read all, some or nothing of the answer; or leave at any time."""
        text = f"client {number} " + "abcdefgh" * self.random.randrange(1, 40)
        name = self.random.choice(NAMES)
        options = {"num_ctx": self.random.choice((4096, 4096, 4096, 2048))}
        patience_s = self.random.choice((0.01, 0.1, 0.5, 30))
        try:
            async with asyncio.timeout(patience_s):
                answer = await self._ask(name, text, options)
            assert answer in (text, "")
            self.ends["answered"] += 1
        except TimeoutError:
            self.ends["left"] += 1
        except CorralError as error:
            self.ends[type(error).__name__] += 1

    async def _ask(self, name: str, text: str, options: dict[str, Any]) -> str:
        keep_alive_ns = self.random.choice((None, None, 0, 10**8))
        completion = await self.kernel.begin(
            name, text, options=options, keep_alive_ns=keep_alive_ns
        )
        async with completion:
            if self.random.random() < 0.1:
                return ""  # it goes without a look
            return "".join([event.content async for event in completion if isinstance(event, Text)])

    async def vandal(self) -> None:
        """Kill a worker, the spare one too, or unload a model."""
        while True:
            await asyncio.sleep(self.random.uniform(0.1, 0.5))
            children = [p for p in psutil.Process().children() if _is_worker(p)]
            if children and self.random.random() < 0.6:
                with contextlib.suppress(psutil.NoSuchProcess):
                    os.kill(self.random.choice(children).pid, signal.SIGKILL)
            else:
                model = await self.kernel.corral.find(self.random.choice(NAMES))
                await self.kernel.corral.unload(model)


def _is_worker(process: psutil.Process) -> bool:
    """Not a server of other tests."""
    with contextlib.suppress(psutil.Error):
        return "corral_kernel.worker" in process.cmdline()
    return False


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_lost_whatever_clients_and_workers_do(
    start_kernel: Start, tools: Any, seed: int
) -> None:
    kernel = await start_kernel(MAX_LOADED_MODELS="2", MAX_QUEUE="20", NUM_PARALLEL="3")
    kernel.scheduler._deaths = Deaths(most=1000)
    for name in NAMES:
        kernel.create(name, echo_step_ms=1)
    chaos = Chaos(kernel, seed)
    vandal = asyncio.create_task(chaos.vandal())
    clients = []
    async with asyncio.timeout(200):
        end = asyncio.get_running_loop().time() + SECONDS
        while asyncio.get_running_loop().time() < end:
            clients.append(asyncio.create_task(chaos.client(len(clients))))
            await asyncio.sleep(chaos.random.expovariate(50))
        vandal.cancel()
        await asyncio.gather(*clients)

    assert chaos.ends.total() == len(clients)
    assert chaos.ends["answered"]
    scheduler = kernel.scheduler
    await tools.until(lambda: all(not i.leases for i in scheduler._instances.values()))
    assert not scheduler._waiting
    for instance in scheduler.running():
        await tools.until(lambda i=instance: not i.worker._jobs)
        assert not instance.owed
    for name in NAMES:
        assert await kernel.ask(name, "still served") == "still served"
    await kernel.corral.close()
    assert not scheduler._instances
    assert not scheduler._tasks
