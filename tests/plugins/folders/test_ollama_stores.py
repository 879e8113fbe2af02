"""Stores as Ollama lays them out, built here from the contract alone."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral_kernel.environment import Settings
from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, Store, create_model

CONFIG = "application/vnd.docker.container.image.v1+json"
IMAGE = "application/vnd.ollama.image."


class OllamaFolder:
    """What `ollama create` leaves behind."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, data: bytes, media_type: str, **more: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        path = self.root / "blobs" / f"sha256-{digest}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        entry = {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
        return entry | more

    def add(self, name: str, weights: Path, **texts: str) -> bytes:
        config = {
            "model_format": "gguf", "model_family": "llama", "model_families": ["llama"],
            "model_type": "91K", "file_type": "unknown", "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": []},
        }  # fmt: skip
        layers = [self.blob(weights.read_bytes(), f"{IMAGE}model", **{"from": "/somewhere/else"})]
        layers += [self.blob(text.encode(), f"{IMAGE}{kind}") for kind, text in texts.items()]
        document = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": self.blob(json.dumps(config).encode(), CONFIG),
            "layers": layers,
        }
        raw = json.dumps(document).encode()
        path = self.root / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        return raw


@pytest.fixture
def ollama(tmp_path: Path) -> OllamaFolder:
    return OllamaFolder(tmp_path / "ollama")


NAME = "registry.ollama.ai/library/tiny/latest"
TEXTS = {"system": "Be brief.", "params": '{"temperature":0.5,"stop":["x"]}\n', "license": "Free."}


def test_its_models_are_lent_by_their_own_names_with_all_they_say(
    ollama: OllamaFolder, make_shelf: Any, tiny: Path
) -> None:
    raw = ollama.add(NAME, tiny, **TEXTS)
    ollama.add("hf.co/User/Repo/Q4_0", tiny)
    shelf = make_shelf(ollama.root)
    assert shelf.names() == ["hf.co/User/Repo:Q4_0", "tiny:latest"]
    model = shelf.store.open(ModelName.parse("tiny"))
    assert model.digest == hashlib.sha256(raw).hexdigest()
    assert (model.system, model.licenses) == ("Be brief.", ("Free.",))
    assert model.parameters == {"temperature": 0.5, "stop": ["x"]}
    assert model.weights.path.parent == ollama.root / "blobs"
    assert "ollama rm tiny:latest" in model.owner
    shelf.store.copy(model.name, ModelName.parse("mine"))
    copied = shelf.store.open(ModelName.parse("mine"))
    assert (copied.digest, copied.system) == (model.digest, "Be brief.")
    assert copied.weights.path.samefile(model.weights.path)


def test_a_store_deeper_in_a_listed_folder_is_found(
    tmp_path: Path, make_shelf: Any, tiny: Path
) -> None:
    OllamaFolder(tmp_path / "disk" / "a" / "models").add(NAME, tiny)
    assert make_shelf(tmp_path / "disk").names() == ["tiny:latest"]


def lose_weights(ollama: OllamaFolder, raw: bytes) -> None:
    digest = json.loads(raw)["layers"][0]["digest"].replace(":", "-")
    (ollama.root / "blobs" / digest).unlink()


def link_weights_out(ollama: OllamaFolder, raw: bytes) -> None:
    digest = json.loads(raw)["layers"][0]["digest"].replace(":", "-")
    path = ollama.root / "blobs" / digest
    path.rename(ollama.root.parent / "outside")
    path.symlink_to(ollama.root.parent / "outside")


def break_manifest(ollama: OllamaFolder, raw: bytes) -> None:
    (ollama.root / "manifests" / NAME).write_bytes(raw[:50])


def make_pipe(ollama: OllamaFolder, raw: bytes) -> None:
    path = ollama.root / "manifests" / NAME
    path.unlink()
    os.mkfifo(path)


def link_manifest_out(ollama: OllamaFolder, raw: bytes) -> None:
    path = ollama.root / "manifests" / NAME
    path.rename(ollama.root.parent / "manifest")
    path.symlink_to(ollama.root.parent / "manifest")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lose_weights, "No such file"),
        (link_weights_out, "is no file of its own"),
        (break_manifest, "the manifest is damaged"),
        (link_manifest_out, "is no file of its own"),
        (make_pipe, ""),
    ],
)
def test_a_damaged_model_of_it_harms_no_other(
    ollama: OllamaFolder,
    make_shelf: Any,
    tiny: Path,
    harm: Callable[[OllamaFolder, bytes], None],
    told: str,
) -> None:
    raw = ollama.add(NAME, tiny)
    ollama.add("registry.ollama.ai/library/other/latest", tiny.parent / "gpt2byte-f16.gguf")
    harm(ollama, raw)
    shelf = make_shelf(ollama.root)
    assert [name for name in shelf.names() if name != "other:latest"] == []
    assert told in shelf.notes()
    assert "other" not in shelf.notes()


def test_the_usual_place_is_looked_at_without_being_listed(
    ollama: OllamaFolder, make_shelf: Any, tiny: Path, tmp_path: Path
) -> None:
    ollama.add(NAME, tiny)
    assert make_shelf(usual=(tmp_path / "nowhere", ollama.root)).names() == ["tiny:latest"]


def test_the_own_store_is_not_lent_to_itself(make_shelf: Any, tmp_path: Path, tiny: Path) -> None:
    own = OllamaFolder(tmp_path / "home" / "models")
    own.add(NAME, tiny)
    shelf = make_shelf(tmp_path / "home", usual=(own.root,))
    assert shelf.lent() == {}
    assert shelf.names() == ["tiny:latest"]


@pytest.mark.parametrize(
    ("environ", "usual"),
    [
        ({}, ["/h/.ollama/models", "/usr/share/ollama/.ollama/models"]),
        (
            {"OLLAMA_MODELS": "/set", "CORRAL_MODELS": "/ours"},
            ["/set", "/h/.ollama/models", "/usr/share/ollama/.ollama/models"],
        ),
        ({"CORRAL_MODEL_PATHS": "none"}, []),
    ],
)
def test_an_ollama_of_this_machine_is_known_by_its_usual_places(
    environ: dict[str, str], usual: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/h")
    settings = Settings.from_environ(environ)
    assert [str(path) for path in settings.usual_model_paths] == usual
    assert settings.model_paths == ()


def test_what_corral_makes_keeps_the_rules_of_the_layout(tmp_path: Path, tiny: Path) -> None:
    """Read by the contract's rules alone, as any program that knows Ollama's store would."""
    store = Store(tmp_path / "models", tmp_path / "cache")
    digest, _ = store.blobs.add(tiny.read_bytes())
    request = CreateRequest(
        model="Team/Mine:v1",
        files={"tiny.gguf": digest},
        system="Say hi!",
        template="{{ .Prompt }}",
        licenses=("Free.",),
        parameters={"temperature": 1, "top_k": 10, "stop": ["USER:", "ASSISTANT:"]},
        messages=({"role": "user", "content": "hello"},),
    )
    list(create_model(store, request))

    (manifest,) = [path for path in (store.root / "manifests").rglob("*") if path.is_file()]
    assert manifest.relative_to(store.root / "manifests") == Path("registry.ollama.ai/Team/Mine/v1")
    raw = manifest.read_bytes()
    document = json.loads(raw)
    # Compact, fields in this order, one newline at the end.
    assert raw == json.dumps(document, separators=(",", ":")).encode() + b"\n"
    assert list(document) == ["schemaVersion", "mediaType", "config", "layers"]
    assert document["schemaVersion"] == 2
    assert document["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    kinds = [entry["mediaType"].removeprefix(IMAGE) for entry in document["layers"]]
    assert kinds == ["model", "template", "system", "license", "params", "messages"]
    assert document["config"]["mediaType"] == CONFIG
    contents = {}
    for entry in (document["config"], *document["layers"]):
        path = store.root / "blobs" / entry["digest"].replace(":", "-")
        data = path.read_bytes()
        assert entry["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert entry["size"] == len(data)
        assert path.stat().st_mode & 0o777 == 0o644
        contents[entry["mediaType"].removeprefix(IMAGE)] = data
    # The contract's golden digests of these very texts.
    digests = {
        entry["mediaType"].removeprefix(IMAGE): entry["digest"] for entry in document["layers"]
    }
    assert digests["params"].startswith("sha256:1d0ad71299d48c2f")
    assert digests["template"].startswith("sha256:b507b9c2f6ca642b")
    assert digests["system"].startswith("sha256:f29e82a8284dbdf5")
    config = json.loads(contents[CONFIG])
    assert list(config) == [
        "model_format", "model_family", "model_families", "model_type", "file_type",
        "architecture", "os",
    ]  # fmt: skip
    assert contents[CONFIG].endswith(b"}\n")
    assert len(list((store.root / "blobs").iterdir())) == len(contents)


def test_a_whole_store_is_served_in_place(
    ollama: OllamaFolder, tiny: Path, serve_folders: Any, tmp_path: Path
) -> None:
    raw = ollama.add(NAME, tiny, **TEXTS)
    before = {path: path.stat().st_mtime_ns for path in ollama.root.rglob("*")}
    server = serve_folders(ollama.root)
    with httpx.Client(base_url=server.url, timeout=120) as client:
        (listed,) = client.get("/api/tags").json()["models"]
        assert listed["digest"] == hashlib.sha256(raw).hexdigest()
        body = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "capital of Italy?"}],
            "stream": False,
            "options": {"temperature": 0},
        }
        assert client.post("/api/chat", json=body).json()["message"]["content"]
        refused = client.request("DELETE", "/api/delete", json={"model": "tiny"})
        assert refused.status_code >= 400
        assert "ollama rm tiny:latest" in refused.json()["error"]
    assert {path: path.stat().st_mtime_ns for path in ollama.root.rglob("*")} == before
    assert not (server.home / "models" / "blobs").exists()
