"""The loop in this very process over real engines, and plugins of tests that workers find too."""

import contextlib
import hashlib
import importlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from corral_echo.engine import EchoEngine
from corral_echo.options import EchoOptions

from corral_kernel import frames
from corral_kernel.contracts import Claim, FileRef, LoadRequest, Plan, TokenEngine
from corral_kernel.errors import RemoteJobError
from corral_kernel.options import RequestOptions
from corral_kernel.plugins import Plugins
from corral_kernel.testing import chain_of
from corral_kernel.worker.loop import Loop
from corral_kernel.worker.preparing import Preparer
from corral_kernel.worker.running import Running
from corral_llamacpp.loading import load
from corral_llamacpp.options import LlamaOptions

SLOTS = 4
TIMEOUT = "400ms"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have the plugins of the folder `plugins` found, here and in workers, while a file runs."""
    site = tmp_path_factory.mktemp("site")
    for file in (Path(__file__).parent / "plugins").glob("*.py"):
        module = f"plugin_{file.stem}"
        shutil.copy(file, site / f"{module}.py")
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[corral]\n{file.stem} = {module}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        importlib.invalidate_caches()
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plugin_kernel(installed: None, start_kernel: Callable[..., Any]) -> AsyncIterator[Any]:
    """A kernel like `kernel`, with those plugins; their samplers have 0.4 s for a step."""
    yield await start_kernel(models=True, CORRAL_SAMPLER_TIMEOUT=TIMEOUT)


@dataclass(frozen=True)
class Answer:
    """All that came of one completion."""

    events: list[frames.JobEvent]
    done: frames.Done

    @property
    def text(self) -> str:
        return "".join(event.content for event in self.events if isinstance(event, frames.Text))

    @property
    def logprobs(self) -> list[frames.TokenLogprob]:
        texts = (event for event in self.events if isinstance(event, frames.Text))
        return [logprob for text in texts for logprob in text.logprobs]


class _AllDone(Exception):  # noqa: N818 - no error: the way out of a loop without an end
    pass


class Local:
    """Runs jobs in the loop of this very process.

    Args:
        engine: That runs them.
        drafts: Draft tokens a step.

    Attributes:
        loop: The one that runs.
        heard: Called after each step's events, on the engine's thread.
    """

    def __init__(self, engine: TokenEngine, drafts: int) -> None:
        self.engine = engine
        self._drafts = drafts
        self._ids = itertools.count(1)
        self._events: list[frames.JobEvent] = []
        self._left = 0
        self.loop: Loop
        self.heard: Callable[[Local], None] = lambda _local: None

    def send(self, step: frames.Step) -> None:
        self._events += step.events
        self.heard(self)
        self._left -= sum(isinstance(e, frames.Done | frames.Failed) for e in step.events)
        if not self._left:
            raise _AllDone

    def job(self, prompt: str, plan: Plan | None = None, **given: Any) -> Running:
        """Prepare a job, greedy and of 40 tokens unless told; keywords are options and fields."""
        plugins = Plugins()
        fields = {k: given.pop(k) for k in list(given) if k in frames.Generate.__struct_fields__}
        own = {k: given.pop(k) for k in list(given) if k in RequestOptions.__struct_fields__}
        spec = frames.Generate(
            job_id=next(self._ids),
            prompt=frames.PromptSpec(text=prompt),
            options=RequestOptions(**{"num_predict": 40, **own}),
            chain=chain_of(
                {"temperature": 0, **given}, [kind for _, kind in plugins.samplers.values()]
            ),
            **fields,
        )
        return Preparer(self.engine, plugins, self._drafts).prepare(spec, plan)

    def run(self, *jobs: Running) -> list[Answer]:
        """Run jobs to their ends at once; a failure is raised."""
        self._events, self._left = [], len(jobs)
        # It only sends; and what a step brings is looked at after each.
        self.loop = loop = Loop(self.engine, self, 60.0, interval_s=0.0)  # type: ignore[arg-type]
        for job in jobs:
            loop.opened(job.id)
            loop.take(job)
        with contextlib.suppress(_AllDone):
            loop.run()
        return [self._answer(job.id) for job in jobs]

    def answer(self, prompt: str, plan: Plan | None = None, **given: Any) -> Answer:
        """Run one job."""
        return self.run(self.job(prompt, plan, **given))[0]

    def of(self, job: Running, kind: type = object) -> list[frames.JobEvent]:
        """What came of a job so far."""
        return [e for e in self._events if e.job_id == job.id and isinstance(e, kind)]

    def _answer(self, job_id: int) -> Answer:
        events = [event for event in self._events if event.job_id == job_id]
        end = events[-1]
        if isinstance(end, frames.Failed):
            raise RemoteJobError(end.code, end.message)
        assert isinstance(events[0], frames.Accepted)
        assert isinstance(end, frames.Done)
        return Answer(events, end)


@pytest.fixture(scope="module")
def local(installed: None) -> Iterator[Callable[..., Local]]:
    """Open a model in this process: `local(path, drafts=4)`; `local(None)` is the backend echo."""
    engines: dict[Any, TokenEngine] = {}

    def start(path: Path | None, drafts: int = 0, context_tokens: int = 256) -> Local:
        key = (path, drafts, context_tokens)
        if key not in engines:
            engines[key] = open_engine(path, drafts, context_tokens)
        return Local(engines[key], drafts)

    yield start
    for engine in engines.values():
        engine.close()


def open_engine(path: Path | None, drafts: int, context_tokens: int) -> TokenEngine:
    if path is None:
        return EchoEngine(EchoOptions(num_ctx=context_tokens), SLOTS)
    file = FileRef(
        role="weights",
        digest=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
        size_bytes=path.stat().st_size,
        path=str(path),
    )
    options = LlamaOptions(
        num_ctx=context_tokens,
        num_batch=512,
        num_thread=1,
        kv_cache_type="f32",
        flash_attention=False,
        draft_num_predict=drafts or None,
    )
    claim = Claim(backend="llamacpp", confidence=1.0, why="", capabilities=("completion",))
    engine = load(
        LoadRequest(
            claim=claim, options=options, files=(file,), slots=SLOTS, report=lambda _share: True
        )
    )
    assert isinstance(engine, TokenEngine)
    return engine
