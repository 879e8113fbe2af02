"""What the tests of folders share: files to lay out, and a registry that looks each time."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_folders.registry import FolderRegistry
from corral_kernel.contracts import RegistryPlaces
from corral_kernel.models import LentModel
from corral_kernel.store import Store

MODELS = Path(__file__).parents[2] / "models"


class Shelf:
    """A registry of folders and the store of a server that asks it."""

    def __init__(self, home: Path, *folders: Path, usual: tuple[Path, ...] = ()) -> None:
        self.registry = FolderRegistry(rest_s=0.0)
        self.places = RegistryPlaces(
            home=home, models_dir=home / "models", folders=folders, usual=usual
        )
        self.registry.begin(self.places)
        self.registry.notes()  # the look that began then is over: the next one finds what is put
        self.store = Store(home / "models", home / "cache", lent=self.registry.lent)

    def names(self) -> list[str]:
        return sorted(model.name.short for model in self.store.list_models())

    def lent(self) -> dict[str, LentModel]:
        return {model.name: model for model in self.registry.lent()}

    def notes(self) -> str:
        return "\n".join(self.registry.notes())


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def tiny() -> Path:
    return MODELS / "tiny-chat-f32.gguf"


@pytest.fixture
def onnx() -> Path:
    return MODELS / "tiny-chat-onnx"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder that a user lists."""
    folder = tmp_path / "listed"
    folder.mkdir()
    return folder


@pytest.fixture
def shelf(tmp_path: Path, listed: Path) -> Shelf:
    return Shelf(tmp_path / "home", listed)


@pytest.fixture
def make_shelf(tmp_path: Path) -> Callable[..., Shelf]:
    def make(*folders: Path, usual: tuple[Path, ...] = ()) -> Shelf:
        return Shelf(tmp_path / "home", *folders, usual=usual)

    return make


@pytest.fixture
def put(listed: Path, tiny: Path) -> Callable[..., Path]:
    """Put a GGUF file, by default the tiny chat model, into the listed folder."""

    def put_file(name: str, source: Path | bytes = tiny) -> Path:
        path = listed / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            path.write_bytes(source)
        else:
            shutil.copy(source, path)
        return path

    return put_file


@pytest.fixture
def hub_cache(tmp_path: Path) -> "HubCache":
    return HubCache(tmp_path / "hub")


class HubCache:
    """Hugging Face's cache, as its library lays it out."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, repository: str, revision: str, name: str, source: Path, ref: str = "") -> Path:
        """Put a file into a snapshot; large ones are named by their SHA-256, others otherwise."""
        folder = self.root / f"models--{repository.replace('/', '--')}"
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        blob = folder / "blobs" / (digest if source.stat().st_size > 100_000 else digest[:40])
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, blob)
        link = folder / "snapshots" / revision / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path("../" * (2 + name.count("/"))) / "blobs" / blob.name)
        if ref:
            (folder / "refs").mkdir(exist_ok=True)
            (folder / "refs" / ref).write_text(revision)
        return link


@pytest.fixture
def serve_folders(start_server: Callable[..., Any]) -> Callable[..., Any]:
    """Start a server that lends what is in some folders, and nothing else."""

    def serve(*folders: Path) -> Any:
        paths = os.pathsep.join(map(str, folders))
        return start_server(CORRAL_MODEL_PATHS=paths, CORRAL_DISABLE_PLUGINS="packages")

    return serve
