"""Models that are folders, over HTTP: made, shown, run by real workers, deleted under them."""

import contextlib
import hashlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

MODELS = Path(__file__).parents[1] / "models"
ONNX, INT4 = MODELS / "tiny-chat-onnx", MODELS / "tiny-chat-onnx-int4"
LEGACY = MODELS / "gpt2byte-f16.ggml.bin"
NOWHERE = "sha256:" + "0" * 64
LIMIT_S = 60.0

Start = Callable[..., "Served"]


class Served:
    """A server whose workers know the backend `reader`, and what tests do with it."""

    def __init__(self, server: Any, models: Path) -> None:
        self.server = server
        self.models = models
        self.client = httpx.Client(base_url=server.url, timeout=LIMIT_S)

    def blob(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        return digest

    def create(self, name: str, folder: Path = ONNX, **fields: Any) -> dict[str, str]:
        files = {file.name: self.blob(file.read_bytes()) for file in folder.iterdir()}
        body = {"model": name, "files": files, "stream": False, **fields}
        assert self.client.post("/api/create", json=body).json() == {"status": "success"}
        return files

    def ask(self, model: str, prompt: str = "hello", **fields: Any) -> httpx.Response:
        body = {"model": model, "prompt": prompt, "raw": True, "stream": False, **fields}
        return self.client.post("/api/generate", json=body)

    def works(self, model: str, **fields: Any) -> None:
        answer = self.ask(model, **fields)
        assert (answer.status_code, answer.json()["response"]) == (200, "hello"), answer.text

    def loaded(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get("/api/ps").json()["models"]
        return found

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.server.process.pid).children()

    def stop(self, model: str) -> None:
        self.client.post("/api/generate", json={"model": model, "keep_alive": 0}).raise_for_status()

    def delete(self, model: str) -> None:
        self.client.request("DELETE", "/api/delete", json={"model": model}).raise_for_status()

    @property
    def folders(self) -> list[str]:
        place = self.models / "folders"
        return sorted(path.name for path in place.iterdir()) if place.exists() else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which servers and workers find the backend `reader`."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).with_name("folder_reader.py"), site / "folder_reader.py")
    info = site / "folder_reader-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: folder-reader\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[corral]\nreader = folder_reader\n")
    return site


@pytest.fixture
def start(start_server: Callable[..., Any], site: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a server on one and the same folder of models."""
    with contextlib.ExitStack() as ending:

        def start() -> Served:
            models = tmp_path / "models"
            server = start_server(CORRAL_MODELS=str(models), PYTHONPATH=str(site))
            served = Served(server, models)
            ending.callback(served.client.close)
            return served

        yield start


@pytest.fixture
def served(start: Start) -> Served:
    return start()


@pytest.fixture(scope="module")
def shared(
    start_server: Callable[..., Any], site: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """One server for tests that leave nothing behind."""
    models = tmp_path_factory.mktemp("models")
    served = Served(start_server(CORRAL_MODELS=str(models), PYTHONPATH=str(site)), models)
    yield served
    served.client.close()


def wait_until(true: Callable[[], bool]) -> None:
    """For what a thread of the server does by itself after a worker's end."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_a_worker_finds_the_files_of_a_folder_under_their_names(served: Served) -> None:
    files = served.create("folder")
    served.works("folder")
    (loaded,) = served.loaded()
    assert loaded["engine"]["backend"] == "reader"
    details = loaded["engine"]["details"]
    assert details["files"].split() == sorted(files)
    assert Path(details["folder"]).parent == served.models / "folders"
    assert (loaded["details"]["format"], loaded["details"]["family"]) == ("onnx", "llama")


def test_a_copy_and_a_heir_share_the_worker(served: Served) -> None:
    served.create("folder")
    body = {"source": "folder", "destination": "copied"}
    served.client.post("/api/copy", json=body).raise_for_status()
    body = {"model": "heir", "from": "folder", "system": "S"}
    served.client.post("/api/create", json=body).raise_for_status()
    served.works("folder")
    before = [worker.pid for worker in served.workers()]
    for name in ("copied", "heir"):
        served.works(name)
        (loaded,) = served.loaded()
        assert loaded["name"] == "folder:latest"
    assert [worker.pid for worker in served.workers()] == before
    served.create("int4", INT4)
    served.works("int4")
    assert len(served.loaded()) == 2


def test_a_folder_is_listed_shown_copied_and_deleted(served: Served) -> None:
    served.create("folder", parameters={"top_k": 3}, license="MIT")
    (listed,) = [
        m for m in served.client.get("/api/tags").json()["models"] if "folder" in m["name"]
    ]
    assert (listed["details"]["format"], listed["details"]["families"]) == ("onnx", ["llama"])
    shown = served.client.post("/api/show", json={"model": "folder"}).json()
    assert shown["model_info"] == {
        "general.architecture": "llama",
        "llama.context_length": 256,
        "llama.embedding_length": 64,
    }
    assert "\nFROM folder:latest\n" in shown["modelfile"]
    assert shown["template"] == (ONNX / "chat_template.jinja").read_text()
    assert shown["backend"]["name"] == "reader"
    served.delete("folder")
    assert served.client.post("/api/show", json={"model": "folder"}).status_code == 404
    assert not list((served.models / "blobs").iterdir())


def test_a_model_that_is_deleted_while_a_worker_runs_it_stays_whole_to_its_end(
    served: Served,
) -> None:
    served.create("folder")
    body = {"model": "folder", "prompt": "x" * 4000, "raw": True, "options": {"echo_step_ms": 2}}
    with served.client.stream("POST", "/api/generate", json=body) as answer:
        lines = answer.iter_lines()
        assert '"response":"x"' in next(lines)
        (folder,) = served.folders
        served.delete("folder")
        assert len(list((served.models / "folders" / folder).iterdir())) == 6
        assert served.ask("folder").status_code == 404
        assert '"response":"x"' in next(lines)
    for worker in served.workers():
        worker.kill()
    wait_until(lambda: served.folders == [])
    wait_until(lambda: not list((served.models / "blobs").iterdir()))


def test_a_deleted_model_s_folder_goes_when_it_is_unloaded(served: Served) -> None:
    served.create("folder")
    served.works("folder", keep_alive="1h")
    served.client.post(
        "/api/copy", json={"source": "folder", "destination": "kept"}
    ).raise_for_status()
    served.delete("folder")
    served.works("kept")
    (folder,) = served.folders
    served.stop("kept")
    wait_until(lambda: served.loaded() == [])
    assert served.folders == [folder]
    served.works("kept", keep_alive=0)
    served.delete("kept")
    wait_until(lambda: served.folders == [])


def test_a_worker_of_another_server_keeps_the_folder(start: Start) -> None:
    first, second = start(), start()
    first.create("folder")
    second.works("folder")
    (folder,) = first.folders
    first.delete("folder")
    assert len(list((first.models / "folders" / folder).iterdir())) == 6
    start()  # its sweep leaves it alone too
    assert first.folders == [folder]
    for worker in second.workers():
        worker.kill()
    wait_until(lambda: first.folders == [])


def test_a_server_that_is_killed_leaves_what_the_next_one_sweeps(
    start: Start, wait_gone: Callable[[int], None]
) -> None:
    served = start()
    served.create("folder")
    served.works("folder")
    served.create("int4", INT4)
    served.works("int4")
    served.delete("folder")
    workers = [worker.pid for worker in served.workers()]
    os.kill(served.server.process.pid, signal.SIGKILL)
    for pid in workers:
        wait_gone(pid)
    assert len(served.folders) == 2
    later = start()
    assert len(later.folders) == 1
    later.works("int4")
    assert later.loaded()[0]["engine"]["details"]["folder"].endswith(later.folders[0])


def test_a_folder_that_was_damaged_meanwhile_is_laid_out_anew(served: Served) -> None:
    served.create("folder")
    served.works("folder", keep_alive=0)
    wait_until(lambda: served.loaded() == [])
    (folder,) = served.folders
    (served.models / "folders" / folder / "model.onnx").unlink()
    served.works("folder")


def test_a_missing_file_is_told_by_its_name(served: Served) -> None:
    files = served.create("folder")
    blob = served.models / "blobs" / files["model.onnx.data"].replace(":", "-")
    blob.unlink()
    for answer in (
        served.ask("folder"),
        served.client.post("/api/show", json={"model": "folder"}),
    ):
        assert answer.status_code == 500, answer.text
        assert answer.json()["error"].startswith("model.onnx.data is missing: ")
    assert "folder:latest" in [m["name"] for m in served.client.get("/api/tags").json()["models"]]
    served.create("folder")
    served.works("folder")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", "file path must be relative"),
        ("/x", "file path must be relative"),
        ("a//b", "file path must be relative"),
        ("a\\b", "file name 'a\\\\b' holds '\\\\', which some systems do not take"),
        ("a\0b", "file name 'a\\x00b' holds a character that cannot be printed"),
        ("nul", "file name 'nul' holds 'nul', which is a device on Windows"),
        ("MODEL.onnx", "are the same to some systems"),
        ("model.onnx/x", "file name 'model.onnx' is also the folder of 'model.onnx/x'"),
    ],
)
def test_a_hostile_name_is_refused(
    shared: Served,
    name: str,
    message: str,
    stream: bool,  # noqa: FBT001 - both ways
) -> None:
    files = {"genai_config.json": NOWHERE, "model.onnx": NOWHERE, name: NOWHERE}
    body = {"model": "bad", "files": files, "stream": stream}
    answer = shared.client.post("/api/create", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_a_damaged_configuration_is_refused_before_the_answer_begins(shared: Served) -> None:
    files = {"genai_config.json": shared.blob(b"{"), "model.onnx": shared.blob(b"x")}
    answer = shared.client.post("/api/create", json={"model": "bad", "files": files})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("genai_config.json is damaged: ")


def test_a_file_of_before_gguf_is_made_listed_and_shown(shared: Served) -> None:
    files = {LEGACY.name: shared.blob(LEGACY.read_bytes())}
    body = {"model": "old", "files": files, "parameters": {"model_type": "gpt2"}, "stream": False}
    assert shared.client.post("/api/create", json=body).json() == {"status": "success"}
    shown = shared.client.post("/api/show", json={"model": "old"}).json()
    assert (shown["details"]["format"], shown["details"]["family"]) == ("ggml", "gpt2")
    assert shown["details"]["parent_model"] == LEGACY.name
    shared.ask("old", options={"backend": "echo"}).raise_for_status()
    (loaded,) = [m for m in shared.loaded() if m["name"] == "old:latest"]
    assert loaded["details"]["format"] == "ggml"
    shared.delete("old")
