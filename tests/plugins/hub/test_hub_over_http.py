"""Repositories of the Hub through a real server: converted, put together, run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

MODELS = Path(__file__).parents[2] / "models"


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def client(hub: Any, lab: Any, tmp_path: Path) -> Any:
    settings = {"HF_ENDPOINT": hub.pages.url, "CORRAL_DISABLE_PLUGINS": "packages"}
    with (
        lab.running_server(tmp_path / "server", **settings) as server,
        httpx.Client(base_url=server.url, timeout=120) as asking,
    ):
        asking.home = server.home  # type: ignore[attr-defined] # where its store is
        yield asking


def blobs(client: Any) -> set[str]:
    folder = client.home / "models" / "blobs"
    return {path.name for path in folder.iterdir() if path.name != ".lock"}


def test_safetensors_are_converted_on_the_way_in_and_run(hub: Any, client: Any) -> None:
    hub.offer("u/tiny", files={file.name: file for file in (MODELS / "tiny-chat-hf").iterdir()})
    told = lines_of(client.post("/api/pull", json={"model": "hf://u/tiny"}))
    statuses = [line.get("status") for line in told]
    assert statuses[0] == "pulling manifest", told
    assert statuses[-1] == "success", told
    assert "converting model" in statuses
    (listed,) = client.get("/api/tags").json()["models"]
    assert listed["name"] == "hf.co/u/tiny:latest"
    assert listed["details"]["format"] == "gguf"
    body = {
        "model": "hf.co/u/tiny",
        "messages": [{"role": "user", "content": "capital of Italy?"}],
        "stream": False,
        "options": {"temperature": 0},
    }
    answer = client.post("/api/chat", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["message"]["content"] == "Rome."
    # What was only needed for the making is gone.
    shown = client.post("/api/show", json={"model": "hf.co/u/tiny"}).json()
    assert len([name for name in blobs(client) if name in shown["modelfile"]]) == 1
    sizes = [(client.home / "models" / "blobs" / name).stat().st_size for name in blobs(client)]
    assert len([size for size in sizes if size > 100_000]) == 1


def test_parts_of_a_split_file_are_put_together(
    hub: Any, client: Any, make_wide: Any, tmp_path: Path
) -> None:
    make_wide(tmp_path / "wide-F16.gguf", split_max_tensors=4)
    parts = list(tmp_path.glob("wide-F16-*.gguf"))
    assert len(parts) > 2
    hub.offer("u/split", files={f"F16/{part.name}": part for part in parts})
    told = lines_of(client.post("/api/pull", json={"model": "hf://u/split:F16"}))
    assert told[-1] == {"status": "success"}, told
    (listed,) = client.get("/api/tags").json()["models"]
    assert listed["name"] == "hf.co/u/split:F16"
    body = {"model": "hf.co/u/split:F16", "prompt": "abc", "raw": True, "stream": False}
    body["options"] = {"num_predict": 2, "num_ctx": 64}
    assert client.post("/api/generate", json=body).status_code == 200


def test_what_nobody_converts_is_told_before_the_large_files_come(hub: Any, client: Any) -> None:
    files = {file.name: file.read_bytes() for file in (MODELS / "tiny-chat-hf").iterdir()}
    files["config.json"] = files["config.json"].replace(b"LlamaForCausalLM", b"NoSuchModel")
    files["config.json"] = files["config.json"].replace(b'"llama"', b'"no-such"')
    files["model.safetensors"] = bytes(3_000_000)
    hub.offer("u/odd", files=files)
    told = lines_of(client.post("/api/pull", json={"model": "hf://u/odd"}))
    assert "unsupported architecture" in told[-1]["error"]
    assert client.get("/api/tags").json()["models"] == []
    assert blobs(client) == set()
    assert hub.storage.seen == []


def test_an_address_that_is_wrong_and_one_that_is_not_there_have_a_status(
    hub: Any, client: Any
) -> None:
    body = {"model": "hf://u", "stream": False}
    wrong = client.post("/api/pull", json=body)
    assert (wrong.status_code, "hf://USER/REPOSITORY" in wrong.json()["error"]) == (400, True)
    missing = client.post("/api/pull", json={"model": "hf://u/none", "stream": False})
    assert missing.status_code >= 400
    assert "file does not exist" in missing.json()["error"]


def test_a_model_is_built_upon_one_of_an_address(hub: Any, client: Any) -> None:
    hub.offer("u/g", files={"a-Q4_0.gguf": MODELS / "tiny-chat-f32.gguf"})
    body = {"model": "mine", "from": "hf://u/g", "system": "Be brief."}
    told = lines_of(client.post("/api/create", json=body))
    assert told[0]["status"] == "pulling manifest"
    assert told[-1] == {"status": "success"}, told
    names = {model["name"] for model in client.get("/api/tags").json()["models"]}
    assert names == {"mine:latest", "hf.co/u/g:latest"}
    shown = client.post("/api/show", json={"model": "mine"}).json()
    assert shown["details"]["parent_model"] == "hf.co/u/g:latest"
    seen = len(hub.pages.seen)
    again = lines_of(client.post("/api/create", json={**body, "model": "other"}))
    assert again[-1] == {"status": "success"}
    assert len(hub.pages.seen) == seen  # it is here


def test_the_command_runs_a_model_of_an_address(hub: Any, client: Any) -> None:
    hub.offer("u/g", files={"a-Q4_0.gguf": MODELS / "tiny-chat-f32.gguf"})
    command = shutil.which("corral", path=str(Path(sys.executable).parent))
    assert command is not None
    environ = {**os.environ, "CORRAL_HOST": str(client.base_url)}
    for _ in range(2):
        done = subprocess.run(
            [command, "run", "hf://u/g", "capital of Italy?"],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "Rome."), done
    assert len(hub.pages.asked("GET", "/api/models")) == 1
