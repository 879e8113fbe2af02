"""Engines and encoders over small models in ONNX, loaded as a worker loads them."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from corral_kernel.contracts import (
    Claim,
    EncodeItem,
    Encoder,
    Engine,
    FileRef,
    Job,
    LoadRequest,
    Prompt,
    TextPart,
    TokenEngine,
    TokenSegment,
)
from corral_onnx import corral_load
from corral_onnx.options import OnnxOptions

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before any test imports the library by itself

MODELS = Path(__file__).parents[2] / "models"
MANY_STEPS = 5000

Opener = Callable[..., Any]


def file_refs(folder: Path) -> tuple[FileRef, ...]:
    """The files of a folder as a worker gets them."""
    return tuple(
        FileRef(
            role="file",
            digest="sha256:0",
            size_bytes=path.stat().st_size,
            name=path.relative_to(folder).as_posix(),
            path=str(path),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def make_request(folder: Path, slots: int = 1, **options: Any) -> LoadRequest:
    claim = Claim(backend="onnx", confidence=1.0, why="a test", capabilities=("completion",))
    options.setdefault("num_thread", 1)  # tests run beside others
    return LoadRequest(
        claim=claim,
        options=OnnxOptions(**options),
        files=file_refs(folder),
        slots=slots,
        report=lambda _share: True,
    )


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every model run by generators, one sequence at a time."""
    monkeypatch.setattr("corral_onnx.loading.takes_batches", lambda _config, _graph: False)


@pytest.fixture(params=["batched", "generators"])
def way(request: pytest.FixtureRequest) -> str:
    """Both ways to run several jobs."""
    if request.param == "generators":
        request.getfixturevalue("generators")
    return str(request.param)


class Greedy:
    """A loop like the worker's, that always takes the likeliest token.

    Attributes:
        cached: What admission said, by job.
        fed: Positions that the engine fed, by job.
        texts: Ids that were chosen, by job.
        steps: Calls of `forward`.
    """

    def __init__(self, engine: TokenEngine) -> None:
        self.engine = engine
        self.cached: dict[int, int] = {}
        self.fed: dict[int, int] = {}
        self.texts: dict[int, list[int]] = {}
        self.last_row: dict[int, np.ndarray] = {}
        self.steps = 0
        self._limits: dict[int, int] = {}
        self._next_id = 0

    def job(self, prompt: str | Sequence[int], tokens: int = 60, **more: Any) -> Job:
        if isinstance(prompt, str):
            made = self.engine.prepare([TextPart(prompt)])
        else:
            made = Prompt((TokenSegment(list(prompt)),))
        self._next_id += 1
        return Job(id=self._next_id, prompt=made, max_tokens=tokens, **more)

    def admit(self, job: Job) -> bool:
        admission = self.engine.admit(job)
        if admission is None:
            return False
        self.cached[job.id] = admission.cached_tokens
        self.fed[job.id], self.texts[job.id] = 0, []
        self._limits[job.id] = job.max_tokens
        return True

    def step(self) -> dict[int, int]:
        """One `forward`; gives what it fed, by job."""
        self.steps += 1
        assert self.steps < MANY_STEPS, "jobs that come to no end"
        fed = {}
        for rows in self.engine.forward():
            assert rows.error is None
            fed[rows.job_id] = rows.fed
            self.fed[rows.job_id] += rows.fed
            if rows.logits is not None:
                self._choose(rows.job_id, rows.logits[0])
        return fed

    def _choose(self, job_id: int, row: np.ndarray) -> None:
        self.last_row[job_id] = row.copy()
        token = int(row.argmax())
        text = self.texts[job_id]
        text.append(token)
        if token in self.engine.tokenizer.end_ids or len(text) >= self._limits[job_id]:
            self.release(job_id)
        else:
            self.engine.extend(job_id, [token])

    def release(self, job_id: int) -> None:
        self.engine.release(job_id)
        del self._limits[job_id]

    def run(self, *jobs: Job) -> list[list[int]]:
        """Run jobs to their ends, as many at once as there is room; give what was chosen."""
        waiting = list(jobs)
        while waiting or self._limits:
            while waiting and self.admit(waiting[0]):
                waiting.pop(0)
            if self._limits:
                self.step()
        return [self.texts[job.id] for job in jobs]

    def answer(self, prompt: str | Sequence[int], tokens: int = 60, **more: Any) -> str:
        (ids,) = self.run(self.job(prompt, tokens, **more))
        return self.engine.tokenizer.decode(ids).decode()


@pytest.fixture(scope="session")
def load_request() -> Callable[..., LoadRequest]:
    """What a worker asks for, of a folder, slots and options."""
    return make_request


@pytest.fixture
def open_model() -> Iterator[Opener]:
    """Load a folder as a worker does; closed after the test."""
    opened: list[Engine] = []

    def opener(folder: Path, slots: int = 1, **options: Any) -> Engine:
        opened.append(corral_load(make_request(folder, slots, **options)))
        return opened[-1]

    yield opener
    for engine in opened:
        engine.close()


@pytest.fixture
def greedy(open_model: Opener) -> Callable[..., Greedy]:
    """Load a model, with the loop that takes the likeliest token."""
    return lambda folder, slots=1, **options: Greedy(open_model(folder, slots, **options))


@pytest.fixture(scope="session")
def tiny_chat_onnx() -> Path:
    return MODELS / "tiny-chat-onnx"


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a folder, to change."""

    def copy(folder: Path) -> Path:
        target = tmp_path / folder.name
        shutil.copytree(folder, target)
        return target

    return copy


@pytest.fixture(scope="session")
def edit_json() -> Callable[..., None]:
    """Change a JSON file by a function that changes its content."""

    def edit(path: Path, change: Callable[[Any], object]) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


@pytest.fixture(scope="session")
def create_from_folder(
    put_folder: Callable[[httpx.Client, Path], dict[str, str]],
) -> Callable[[httpx.Client, str, Path], None]:
    """Make a model of all files of a folder, over HTTP."""

    def create(client: httpx.Client, name: str, folder: Path) -> None:
        body = {"model": name, "files": put_folder(client, folder), "stream": False}
        response = client.post("/api/create", json=body)
        assert response.status_code == 200, response.text

    return create


@pytest.fixture
def minilm_reference(minilm: Path) -> Iterator[Callable[[Sequence[str]], np.ndarray]]:
    """Vectors of the same weights in 16 bits, by llama.cpp."""
    from corral_llamacpp import corral_load as load_gguf
    from corral_llamacpp.options import LlamaOptions

    request = LoadRequest(
        claim=Claim(backend="llamacpp", confidence=1.0, why="a test", capabilities=("embedding",)),
        options=LlamaOptions(num_thread=1, num_ctx=512),
        files=(FileRef(role="weights", digest="sha256:0", size_bytes=0, path=str(minilm)),),
        slots=1,
        report=lambda _share: True,
    )
    encoder = load_gguf(request)
    assert isinstance(encoder, Encoder)
    yield lambda texts: encoder.encode([encoder.tokenize(EncodeItem(text=t)) for t in texts])
    encoder.close()
