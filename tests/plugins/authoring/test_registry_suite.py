"""The suite of registries, over all that are built in, and over some that break their contract."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral_folders.registry import FolderRegistry
from corral_hub.registry import HubRegistry
from corral_kernel.contracts import Registry, RegistryPlaces, Repository
from corral_kernel.errors import RegistryError
from corral_kernel.gguf import read_header
from corral_kernel.lent import LentManifest, gguf_config
from corral_kernel.models import WEIGHTS_TYPE, Layer, LentModel
from corral_kernel.names import ModelName
from corral_kernel.plugins import Plugins
from corral_kernel.testing import RegistrySuite, run_suite
from corral_oci.registry import OciRegistry
from corral_packages.registry import PackageRegistry

HERE = Path(__file__).parents[1]
TINY = HERE.parent / "models" / "tiny-chat-f32.gguf"
ONNX = HERE.parent / "models" / "tiny-chat-onnx"
CONFIG = b'{"model_format":"gguf","model_family":"llama"}'


@pytest.fixture
def places(tmp_path: Path) -> RegistryPlaces:
    return RegistryPlaces(home=tmp_path / "home", models_dir=tmp_path / "home" / "models")


@pytest.fixture
def hub_of(lab: Any, load_module: Callable[[Path, str], Any]) -> Callable[[Any, Any], Any]:
    """Make a Hub of two imitations; see the tests of `hub`."""
    found = load_module(HERE / "hub" / "conftest.py", "suite_hub")
    return lambda pages, storage: found.Hub(lab, pages, storage)


@pytest.fixture
def registry(lab: Any) -> Iterator[Any]:
    with lab.imitation() as running:
        yield running


def broken(suite: type[RegistrySuite]) -> dict[str, str]:
    outcomes = list(run_suite(suite))
    assert len(outcomes) > 10
    return {outcome.test: outcome.error for outcome in outcomes if outcome.error}


def suite_of(kind: Registry, **members: Any) -> type[RegistrySuite]:
    return type("Suite", (RegistrySuite,), {"kind": kind, **members})


def test_oci_follows_its_contract(registry: Any, lab: Any, places: RegistryPlaces) -> None:
    weights = TINY.read_bytes()
    name = registry.offer("lib/m:x", lab.manifest_of(CONFIG, weights), CONFIG, weights)
    suite = suite_of(
        OciRegistry(),
        places=places,
        pulled=(name,),
        missing=f"{registry.authority}/lib/none",
        pushed=f"{registry.authority}/lib/pushed",
    )
    assert broken(suite) == {}


def test_packages_follow_the_contract(places: RegistryPlaces) -> None:
    registry = PackageRegistry()
    names = [model.name for model in registry.lent()]
    assert broken(suite_of(registry, places=places, lends=names)) == {}


def test_folders_follow_the_contract(tmp_path: Path, places: RegistryPlaces) -> None:
    listed = tmp_path / "listed"
    (listed / "pub" / "R").mkdir(parents=True)
    shutil.copy(TINY, listed / "a.gguf")
    shutil.copy(TINY, listed / "pub" / "R" / "b-Q4_0.gguf")
    shutil.copytree(ONNX, listed / "onnx")
    (listed / "st").mkdir()
    (listed / "st" / "config.json").write_text("{}")
    (listed / "st" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    suite = suite_of(
        FolderRegistry(rest_s=0.0),
        places=RegistryPlaces(home=places.home, models_dir=places.models_dir, folders=(listed,)),
        lends=("a", "pub/R:Q4_0", "onnx", "st"),
    )
    assert broken(suite) == {}


def test_the_hub_follows_its_contract(
    hub_of: Callable[[Any, Any], Any],
    lab: Any,
    places: RegistryPlaces,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    with lab.imitation() as pages, lab.imitation() as storage:
        monkeypatch.setenv("HF_ENDPOINT", pages.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
        hub = hub_of(pages, storage)
        hub.offer("u/gguf", files={"a-Q4_0.gguf": TINY})
        hub.offer("u/onnx", files={path.name: path for path in ONNX.iterdir()})
        suite = suite_of(
            HubRegistry(),
            places=places,
            pulled=("hf://u/gguf:Q4_0", "hf://u/onnx@v1"),
            missing="hf://u/none",
        )
        assert broken(suite) == {}


@pytest.mark.parametrize("name", sorted(Plugins().registries))
def test_every_registry_that_is_installed_follows_what_needs_no_samples(name: str) -> None:
    assert broken(suite_of(Plugins().registries[name][1])) == {}


# ----------------------------------------------------------------- registries that break something


class Careless(Registry):
    """A registry whose parts are replaced, one at a time."""

    name = "careless"
    docs = "for tests"
    claims = "all"
    form = "careless://NAME"


class CarelessRepository(Repository):
    def __init__(self, blobs: dict[str, bytes], raw: bytes) -> None:
        self.blobs, self.raw = blobs, raw

    async def manifest(self) -> bytes:
        return self.raw

    async def read(self, layer: Any, start: int, end: int) -> Any:
        if layer.digest not in self.blobs:
            raise RegistryError("file does not exist")
        yield self.blobs[layer.digest][start:end]

    async def aclose(self) -> None:
        pass


def lent_model(**changes: Any) -> LentModel:
    digest = f"sha256:{hashlib.sha256(TINY.read_bytes()).hexdigest()}"
    writing = LentManifest()
    writing.layers.append(Layer(WEIGHTS_TYPE, digest, TINY.stat().st_size))
    raw = writing.encode(gguf_config(read_header(TINY)))
    fields = {
        "name": "m", "manifest": raw, "blobs": {digest: TINY}, "contents": writing.contents,
        "owner": "tests",
    }  # fmt: skip
    return LentModel(**{**fields, **changes})


def ask_the_network(_self: Any, name: Any) -> float:
    import socket

    socket.getaddrinfo("localhost", 80)
    return 0.0


def raise_key_error(*_: Any) -> Any:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"name": "Two Words"}, "its name is 'Two Words'"),
        ({"docs": ""}, "it has no docs"),
        ({"docs": "a\nb"}, "more than one line"),
        ({"notes": lambda _self: [1]}, "a note is 1"),
        ({"claim": lambda _self, _name: 2.0}, "wanted a number from 0 to 1"),
        ({"claim": ask_the_network}, "asks the network"),
        ({"claim": lambda _self, _name: 0.5, "claims": ""}, "does not say which names"),
        ({"parse": raise_key_error}, "wanted InvalidNameError"),
        ({"parse": lambda _self, _text: ModelName.parse("m")}, "gave ModelName"),
        ({"lent": lambda _self: [1]}, "it lent int"),
        ({"lent": lambda _self: [lent_model(name="../x")]}, "the name '../x'"),
        ({"lent": lambda _self: [lent_model(manifest=b"{")]}, "the manifest of m"),
        ({"lent": lambda _self: [lent_model(owner="")]}, "has no owner"),
        ({"lent": lambda _self: [lent_model(contents={})]}, "is not lent"),
        ({"lent": lambda _self: [lent_model(blobs={})]}, "is not lent"),
        ({"begin": raise_key_error}, "begin(places) raised KeyError"),
    ],
)
def test_a_breach_is_told_in_words(
    members: dict[str, Any], message: str, places: RegistryPlaces
) -> None:
    kind = type("Broken", (Careless,), members)()
    suite = suite_of(kind, places=places)
    try:
        found = " ".join(broken(suite).values())
    except AssertionError as error:
        found = str(error)
    assert message in found


def cut_short(data: bytes) -> bytes:
    return data[:-1]


def lie(data: bytes) -> bytes:
    return b"x" * len(data)


@pytest.mark.parametrize(("harm", "message"), [(cut_short, "is short"), (lie, "came as sha256:")])
def test_wrong_bytes_are_told(
    harm: Callable[[bytes], bytes], message: str, places: RegistryPlaces
) -> None:
    def entry(data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return {"mediaType": "x", "digest": digest, "size": len(data)}

    document = {"config": entry(CONFIG), "layers": [entry(b"weights")]}
    blobs = {entry(data)["digest"]: harm(data) for data in (CONFIG, b"weights")}
    raw = json.dumps(document).encode()
    members = {"open": lambda _self, _call: CarelessRepository(blobs, raw)}
    kind = type("Wrong", (Careless,), members)()
    found = broken(suite_of(kind, places=places, pulled=("x/y",), missing="x/none"))
    assert message in " ".join(found.values())
    assert "wanted RegistryError" in found["a missing model is a registry error"]
