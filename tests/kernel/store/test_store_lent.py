import hashlib
import json
import os
from pathlib import Path

import msgspec
import pytest

from corral_kernel.errors import InvalidModelError, ModelNotFoundError, ReadOnlyModelError
from corral_kernel.models import LentModel
from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, Store, cache, create_model

MODELS = Path(__file__).parents[2] / "models"
OWNER = "the package llm-example (pip uninstall llm-example)"
LENT = ModelName.parse("starter")


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Lender:
    """Lends what is in `models`; the starter model lies in a folder like a package's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.file = folder / "weights.gguf"
        self.file.write_bytes((MODELS / "tiny-chat-f32.gguf").read_bytes())
        self.models = [self.starter()]

    def __call__(self) -> list[LentModel]:
        return self.models

    def starter(self) -> LentModel:
        config = b'{"model_format":"gguf","model_family":"llama"}\n'
        weights = digest_of(self.file.read_bytes())
        manifest = {
            "schemaVersion": 2,
            "config": {"mediaType": "c", "digest": digest_of(config), "size": len(config)},
            "layers": [
                {
                    "mediaType": "application/vnd.ollama.image.model",
                    "digest": weights,
                    "size": self.file.stat().st_size,
                }
            ],
        }
        return LentModel(
            name="starter",
            manifest=json.dumps(manifest).encode(),
            blobs={weights: self.file},
            contents={digest_of(config): config},
            modified_ns=7 * 10**9,
            owner=OWNER,
        )


@pytest.fixture
def lender(tmp_path: Path) -> Lender:
    return Lender(tmp_path / "package")


@pytest.fixture
def store(root: Path, tmp_path: Path, lender: Lender) -> Store:
    return Store(root, tmp_path / "cache", lent=lender)


def test_a_lent_model_answers_in_place(store: Store, root: Path, lender: Lender) -> None:
    model = store.open(ModelName.parse("STARTER"))
    assert model.name == LENT
    assert model.weights is not None
    assert model.weights.path == lender.file
    assert model.gguf is not None
    assert (model.owner, model.modified_ns, model.family) == (OWNER, 7 * 10**9, "llama")
    assert [listed.name for listed in store.list_models()] == [LENT]
    store.verify(model)
    assert store.header(model.weights) == model.gguf
    assert not root.exists()


def test_the_digest_of_a_lent_file_is_checked_once(
    store: Store, lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    real = cache.digest_of_file
    monkeypatch.setattr(cache, "digest_of_file", lambda file: hashed.append(file) or real(file))
    model = store.open(LENT)
    store.verify(model)
    store.verify(model)
    assert len(hashed) == 1
    lender.file.write_bytes(lender.file.read_bytes()[:-1] + b"!")
    with pytest.raises(InvalidModelError, match=r"has the digest .* it is damaged"):
        store.verify(store.open(LENT))


def test_a_lent_model_cannot_be_deleted(store: Store, lender: Lender) -> None:
    with pytest.raises(ReadOnlyModelError, match="pip uninstall llm-example"):
        store.delete(ModelName.parse("Starter"))
    assert lender.file.exists()


def test_a_copy_links_the_blob_into_the_store(store: Store, root: Path, lender: Lender) -> None:
    store.copy(LENT, ModelName.parse("mine"))
    model = store.open(ModelName.parse("mine"))
    assert model.weights is not None
    assert model.weights.path.parent == root / "blobs"
    assert model.weights.path.samefile(lender.file)
    assert (model.owner, model.digest) == ("", store.open(LENT).digest)
    lender.models = []
    assert store.open(ModelName.parse("mine")).missing == ()
    store.delete(ModelName.parse("mine"))
    assert lender.file.exists()


def test_a_create_links_the_blob_into_the_store(store: Store, lender: Lender) -> None:
    request = CreateRequest(model="mine", base="starter", system="hi")
    assert [step.status for step in create_model(store, request)][-1] == "success"
    model = store.open(ModelName.parse("mine"))
    assert model.weights is not None
    assert model.weights.path.samefile(lender.file)
    assert (model.system, model.parent_model) == ("hi", "starter:latest")


def test_what_is_built_on_a_lent_file_leaves_its_time_alone(
    store: Store, root: Path, lender: Lender
) -> None:
    os.utime(lender.file, (8, 9))
    for name in ("one", "two"):
        list(create_model(store, CreateRequest(model=name, base="starter", system=name)))
        store.copy(ModelName.parse(name), ModelName.parse(f"{name}-copy"))
    (linked,) = [path for path in (root / "blobs").iterdir() if path.samefile(lender.file)]
    assert (lender.file.stat().st_mtime, linked.stat().st_nlink) == (9, 2)


def test_a_link_that_is_used_is_not_old_whatever_its_content_is(
    store: Store, root: Path, lender: Lender
) -> None:
    os.utime(lender.file, (8, 9))
    list(create_model(store, CreateRequest(model="mine", base="starter")))
    (root / "manifests/registry.ollama.ai/library/mine/latest").unlink()  # as a crash would
    store.start_up()
    assert any(path.samefile(lender.file) for path in (root / "blobs").iterdir())


def test_a_failed_create_leaves_no_link(store: Store, root: Path, lender: Lender) -> None:
    work = create_model(store, CreateRequest(model="mine", base="starter", system="hi"))
    next(work)
    assert list((root / "blobs").iterdir())
    work.close()
    assert list((root / "blobs").iterdir()) == []


def test_a_damaged_package_file_does_not_enter_the_store(
    store: Store, root: Path, lender: Lender
) -> None:
    lender.file.write_bytes(b"damaged")
    with pytest.raises(InvalidModelError, match="it is damaged"):
        store.copy(LENT, ModelName.parse("mine"))
    with pytest.raises(ModelNotFoundError):
        store.open(ModelName.parse("mine"))


def test_a_model_of_the_store_comes_before_a_lent_one(store: Store, lender: Lender) -> None:
    store.copy(LENT, ModelName.parse("other"))
    list(create_model(store, CreateRequest(model="starter", base="other", system="mine")))
    assert store.open(LENT).system == "mine"
    assert [model.name.short for model in store.list_models()].count("starter:latest") == 1
    store.delete(LENT)
    assert store.open(LENT).owner == OWNER


def test_a_removed_package_takes_its_model_along(store: Store, lender: Lender) -> None:
    lender.file.unlink()
    assert "no such file" in store.open(LENT).problem
    lender.models = []
    with pytest.raises(ModelNotFoundError):
        store.open(LENT)
    assert store.list_models() == []


@pytest.mark.parametrize("broken", ["name", "manifest", "blobs", "contents"])
def test_what_is_lent_wrongly_is_left_out(store: Store, lender: Lender, broken: str) -> None:
    wrong = {
        "name": {"name": "../../x"},
        "manifest": {"manifest": b"{"},
        "blobs": {"blobs": {"sha256:../x": lender.file}},
        "contents": {"contents": {}},
    }[broken]
    good = lender.starter()
    lender.models = [msgspec.structs.replace(good, **wrong)]
    assert store.list_models() == []
    lender.models.append(good)
    assert len(store.list_models()) == 1
