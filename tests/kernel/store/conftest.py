import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, Store, create_model

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
