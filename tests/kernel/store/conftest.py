import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.contracts import (
    Converter,
    MadeFile,
    Offer,
    QuantizationType,
    Quantizer,
    Source,
)
from corral_kernel.errors import CorralError
from corral_kernel.makers import Makers
from corral_kernel.models import Model
from corral_kernel.names import ModelName
from corral_kernel.plugins import KERNEL, Plugins
from corral_kernel.store import CreateRequest, NeedsTask, Store, create_model
from corral_kernel.store.steps import Progress, Steps
from corral_kernel.tasks.messages import AnyTask

MODELS = Path(__file__).parents[2] / "models"

Upload = Callable[[str | bytes], str]
Create = Callable[..., list[str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path, tmp_path: Path) -> Store:
    return Store(root, tmp_path / "cache")


@pytest.fixture
def upload(store: Store) -> Upload:
    """Store a file of `tests/models`, or bytes, as a blob; give its digest."""

    def upload(what: str | bytes) -> str:
        data = (MODELS / what).read_bytes() if isinstance(what, str) else what
        with store.blobs.writer() as writer:
            writer.write(data)
            return writer.finish()

    return upload


@pytest.fixture
def create(store: Store) -> Create:
    """Create a model; give the status lines."""

    def create(model: str, **fields: Any) -> list[str]:
        request = CreateRequest(model=model, **fields)
        return [progress.status for progress in create_model(store, request)]

    return create


@pytest.fixture
def tiny(upload: Upload, create: Create) -> ModelName:
    """A model made of the tiny chat GGUF, named `tiny`."""
    create("tiny", files={"tiny.gguf": upload("tiny-chat-f32.gguf")})
    return ModelName.parse("tiny")


@pytest.fixture
def digest_of() -> Callable[[bytes], str]:
    return lambda data: f"sha256:{hashlib.sha256(data).hexdigest()}"


Work = Callable[[AnyTask], tuple[MadeFile, ...]]


class Copier(Converter):
    name = "copier"
    docs = "for tests"
    size_bytes = 0
    makes: Any = "gguf"

    def offer(self, source: Source) -> Offer | None:
        self.source = source
        if "config.json" not in source.documents:
            return None
        return Offer(confidence=0.5, why="", makes=self.makes, size_bytes=self.size_bytes)


class Smaller(Quantizer):
    name = "smaller"
    docs = "for tests"
    types = (
        QuantizationType(name="Q8_0", bits=8),
        QuantizationType(name="F16", bits=16),
        QuantizationType(name="Q4_K_M", bits=4, imatrix="takes"),
        QuantizationType(name="IQ1_S", bits=1, imatrix="needs"),
        QuantizationType(name="INT4", bits=4),
    )

    def offer(self, source: Source, type_name: str) -> Offer | None:
        self.source = source
        wanted = "onnx" if type_name == "INT4" else "gguf"
        makes: Any = "folder" if type_name == "INT4" else "gguf"
        return Offer(confidence=0.5, why="", makes=makes) if source.format == wanted else None


@pytest.fixture
def copier() -> Copier:
    return Copier()


@pytest.fixture
def smaller() -> Smaller:
    return Smaller()


class Lab:
    """Creates models: `lab("m", work, files=…)`; `work` does what a task process would."""

    @staticmethod
    def copy_of(path: Path, name: str = "made.gguf", role: Any = "weights") -> Work:
        """Give work whose outcome is a copy of a file."""

        def work(task: AnyTask) -> tuple[MadeFile, ...]:
            target = Path(task.folder) / name
            target.parent.mkdir(exist_ok=True, parents=True)
            shutil.copy(path, target)
            return (MadeFile(name=name, role=role),)

        return work

    def opened(self, model: str) -> Model:
        return self.store.open(ModelName.parse(model))

    def listed(self) -> set[str]:
        """All that the store has by now."""
        found = {str(path.relative_to(self.store.root)) for path in self.store.root.rglob("*")}
        return found - {"making", ".corral-lock"}

    def __init__(self, store: Store, upload: Any, makers: Makers) -> None:
        self.store = store
        self.upload = upload
        self._makers = makers

    def begin(self, model: str, **fields: Any) -> Steps[None]:
        return create_model(self.store, CreateRequest(model=model, **fields), makers=self._makers)

    def __call__(self, model: str, work: Work | None = None, **fields: Any) -> list[Progress]:
        steps = self.begin(model, **fields)
        told: list[Progress] = []
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return told
            answer = None
            if isinstance(step, NeedsTask):
                assert work is not None
                told.append(step.progress(1, 2))
                try:
                    answer = work(step.task)
                except CorralError as error:
                    steps.throw(error)
            else:
                told.append(step)


@pytest.fixture
def make(store: Store, upload: Any, copier: Copier, smaller: Smaller) -> Lab:
    plugins = Plugins(only=())
    plugins.__dict__["converters"] = {"copier": (KERNEL, copier)}
    plugins.__dict__["quantizers"] = {"smaller": (KERNEL, smaller)}
    return Lab(store, upload, Makers(plugins))
