"""Real workers of the backend `echo`, whose options are its faults."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from corral_echo.options import EchoOptions

from corral_kernel import API_VERSION, frames
from corral_kernel.chains import Chain
from corral_kernel.contracts import Claim, MemoryNeed
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.options import RequestOptions
from corral_kernel.scheduler import Limits, Scheduler, Want
from corral_kernel.supervisor import ChildProcess, JobStream, WorkerProcess, WorkerSetup

LIMIT_S = 60.0
"""How long anything may take that comes by itself; only a failing test waits for so long."""


def claim(memory_bytes: int = 0, per_token_bytes: int = 0, **fields: Any) -> Claim:
    memory = MemoryNeed(base_bytes=memory_bytes, per_token_bytes=per_token_bytes)
    return Claim(
        backend="echo",
        confidence=1.0,
        why="a test",
        capabilities=("completion",),
        memory=memory,
        **fields,
    )


def load(slots: int = 4, **options: Any) -> frames.Load:
    """What loads echo, with faults by their names."""
    return frames.Load(
        api_version=API_VERSION,
        plugin="echo",
        claim=claim(),
        options={"num_ctx": 4096, "num_batch": 512, **options},
        files=(),
        slots=slots,
    )


def want(name: str = "one", *, key: str = "", slots: int | None = 4, **options: Any) -> Want:
    """A model for the scheduler. `memory_bytes` and `automatic` besides options of echo."""
    memory_bytes = options.pop("memory_bytes", 0)
    automatic = options.pop("automatic", ("num_ctx", "num_batch"))
    effective = EchoOptions(**{"num_ctx": 4096, "num_batch": 512, **options})
    return Want(
        key=key or name,
        model=Model(
            name=ModelName.parse(name),
            digest="0" * 64,
            size_bytes=0,
            modified_ns=0,
            config=ModelConfig(),
            files=(),
        ),
        plugin="echo",
        claim=claim(memory_bytes),
        options={f: getattr(effective, f) for f in effective.__struct_fields__},
        automatic=frozenset(automatic),
        files=(),
        slots=slots,
    )


def generate(text: str = "hello", **fields: Any) -> frames.Generate:
    prompt = fields.pop("prompt", frames.PromptSpec(text=text))
    options = RequestOptions(**fields.pop("options", {}))
    fields.setdefault("chain", Chain(greedy=True))
    return frames.Generate(job_id=0, prompt=prompt, options=options, **fields)


async def text_of(stream: JobStream) -> str:
    """Read a job to its end, which must be a `Done`."""
    pieces, last = [], None
    async for event in stream:
        assert not isinstance(last, frames.Done), "there is one end"
        last = event
        if isinstance(event, frames.Text):
            pieces.append(event.content)
    assert isinstance(last, frames.Done)
    return "".join(pieces)


async def first_text(stream: JobStream) -> frames.Text:
    """Read up to the first piece of the answer."""
    async for event in stream:
        if isinstance(event, frames.Text):
            return event
    raise AssertionError("a job without text")


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop run until something is so."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what is looked at sets no event
            await asyncio.sleep(0.002)


class Tools:
    """The functions above, for tests, which cannot import this file."""

    wait_gone: Callable[[int], None]
    load = staticmethod(load)
    want = staticmethod(want)
    claim = staticmethod(claim)
    generate = staticmethod(generate)
    text_of = staticmethod(text_of)
    first_text = staticmethod(first_text)
    until = staticmethod(until)


@pytest.fixture(scope="session")
def tools(wait_gone: Callable[[int], None]) -> type[Tools]:
    Tools.wait_gone = staticmethod(wait_gone)
    return Tools


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the test there are no more processes, descriptors and tasks than before."""
    gc.collect()
    before, servers = _descriptors(), psutil.Process().children()  # other tests' servers go on
    yield
    gc.collect()
    assert [child for child in psutil.Process().children() if child not in servers] == []
    assert _descriptors() <= before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
async def start_worker(nothing_left: None) -> AsyncIterator[Callable[..., Any]]:
    """Start workers; `await start_worker(slots=2, setup=WorkerSetup(…), **faults)` loads one."""
    started: list[WorkerProcess] = []

    async def start(
        *, setup: WorkerSetup | None = None, slots: int = 4, loaded: bool = True, **faults: Any
    ) -> WorkerProcess:
        process = ChildProcess(setup or WorkerSetup(only=("echo", "chat")))
        await process.start()
        worker = WorkerProcess(process)
        started.append(worker)
        if loaded:
            await worker.load("echo", load(slots, **faults))
        return worker

    async with asyncio.timeout(LIMIT_S * 2):
        yield start
        for worker in started:
            await worker.stop()


@pytest.fixture
async def start_scheduler(nothing_left: None) -> AsyncIterator[Callable[..., Scheduler]]:
    """Make schedulers: `start_scheduler(max_loaded=1, setup=…, deaths=…)`."""
    started: list[Scheduler] = []

    def start(*, setup: WorkerSetup | None = None, deaths: Any = None, **limits: Any) -> Scheduler:
        limits = {"max_loaded": 3, "budget_bytes": 1 << 30, **limits}
        scheduler = Scheduler(Limits(**limits), setup or WorkerSetup(only=("echo",)), deaths)
        started.append(scheduler)
        return scheduler

    async with asyncio.timeout(LIMIT_S * 3):
        yield start
        for scheduler in started:
            await scheduler.close()
