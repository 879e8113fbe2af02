"""What is kept of models that were opened before, and within which bounds."""

import json
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.models import Model
from corral_kernel.names import ModelName
from corral_kernel.store import Store, opening

ONNX = Path(__file__).parents[2] / "models" / "tiny-chat-onnx"


@pytest.fixture
def make(store: Store, upload: Any, create: Any) -> Any:
    def make(name: str, document_bytes: int) -> None:
        files = {file.name: upload(file.read_bytes()) for file in ONNX.iterdir()}
        filler = json.dumps([name, "x" * document_bytes]).encode()
        create(name, files=files | {"extra.json": upload(filler)})

    return make


def opened(store: Store, *names: str) -> list[Model]:
    return [store.open(ModelName.parse(name)) for name in names]


def test_a_folder_that_did_not_change_is_opened_once(
    store: Store, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("a", 10)
    (first,) = opened(store, "a")
    monkeypatch.setattr(opening, "read_texts", None)
    assert opened(store, "a") == [first]
    assert opened(store, "a")[0] is first
    assert store.list_models() == [first]


def test_documents_of_many_models_take_bounded_memory(store: Store, make: Any) -> None:
    names = [f"m{number}" for number in range(12)]
    for name in names:
        make(name, 3 << 19)
    first = opened(store, *names)
    latest = opened(store, *reversed(names))[::-1]
    kept = [a is b for a, b in zip(first, latest, strict=True)]
    assert kept == [False, False, *[True] * 10]
    assert [model.documents for model in first] == [model.documents for model in latest]


def test_a_changed_file_is_seen(store: Store, make: Any) -> None:
    make("a", 10)
    (model,) = opened(store, "a")
    path = next(file.path for file in model.folder_files if file.name == "extra.json")
    path.write_bytes(b"")
    assert opened(store, "a")[0].problem.startswith("extra.json is damaged: ")
