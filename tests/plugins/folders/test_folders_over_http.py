import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

LIMIT_S = 60.0


def ask(client: httpx.Client, model: str) -> httpx.Response:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "capital of Italy?"}],
        "stream": False,
        "options": {"temperature": 0},
    }
    return client.post("/api/chat", json=body)


def text(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["message"]["content"])


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + LIMIT_S
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.fixture
def cached(hub_cache: Any, tiny: Path, onnx: Path) -> Path:
    """Hugging Face's cache with a GGUF file and an ONNX folder, all of them links."""
    hub_cache.add("u/gguf", "rev", "tiny-F32.gguf", tiny, ref="main")
    for file in onnx.iterdir():
        hub_cache.add("u/onnx", "rev", f"cpu/{file.name}", file, ref="main")
    return Path(hub_cache.root)


def test_models_of_every_layout_run_in_place(
    listed: Path, put: Any, cached: Path, onnx: Path, serve_folders: Any
) -> None:
    put("plain-F32.gguf")
    shutil.copytree(onnx, listed / "folder")
    server = serve_folders(listed, cached)
    with httpx.Client(base_url=server.url, timeout=120) as client:
        names = {model["name"] for model in client.get("/api/tags").json()["models"]}
        assert names == {"plain:F32", "folder:latest", "hf.co/u/gguf:F32", "hf.co/u/onnx:cpu"}
        answers = {name: text(ask(client, name)) for name in sorted(names)}
        assert len(set(answers.values())) == 1, answers
    models = server.home / "models"
    assert not list(models.rglob("*")) if models.exists() else True


def test_a_file_that_changes_or_goes_while_it_is_served(
    put: Any, listed: Path, tiny: Path, serve_folders: Any
) -> None:
    path = put("a.gguf")
    server = serve_folders(listed)
    with httpx.Client(base_url=server.url, timeout=120) as client:
        assert text(ask(client, "a"))
        shutil.copy(tiny.parent / "gpt2byte-f16.gguf", listed / "new")
        (listed / "new").replace(path)
        shown = wait_for(
            lambda: (
                (found := client.post("/api/show", json={"model": "a"}).json())
                and found["details"]["family"] == "gpt2"
                and found
            )
        )
        assert shown["details"]["format"] == "gguf"
        completed = client.post(
            "/api/generate",
            json={"model": "a", "prompt": "one two", "stream": False, "raw": True},
        )
        assert completed.status_code == 200, completed.text
        path.unlink()
        # Until the folder is looked at again, it is a model whose file cannot be read.
        wait_for(lambda: not client.get("/api/tags").json()["models"])
        assert client.post("/api/show", json={"model": "a"}).status_code == 404
        gone = ask(client, "a")
        assert (gone.status_code, "not found" in gone.text) == (404, True), gone.text


def test_safetensors_say_what_to_do(listed: Path, serve_folders: Any) -> None:
    (listed / "st").mkdir()
    (listed / "st" / "config.json").write_text('{"model_type": "llama"}')
    (listed / "st" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    server = serve_folders(listed)
    with httpx.Client(base_url=server.url, timeout=120) as client:
        assert [m["name"] for m in client.get("/api/tags").json()["models"]] == ["st:latest"]
        answer = ask(client, "st")
        assert answer.status_code >= 400
        assert f"FROM {listed / 'st'}" in answer.json()["error"]


def test_a_split_model_answers_as_the_whole_one(
    listed: Path, serve_folders: Any, make_wide: Any
) -> None:
    make_wide(listed / "whole.gguf")
    make_wide(listed / "parts.gguf", split_max_tensors=4)
    assert len(list(listed.glob("parts-*.gguf"))) > 2
    server = serve_folders(listed)
    answers = {}
    with httpx.Client(base_url=server.url, timeout=120) as client:
        for name in ("whole", "parts"):
            body = {
                "model": name,
                "prompt": "abc",
                "raw": True,
                "stream": False,
                "logprobs": True,
                "options": {"num_predict": 4, "temperature": 0, "num_ctx": 64},
            }
            answer = client.post("/api/generate", json=body)
            assert answer.status_code == 200, answer.text
            answers[name] = answer.json()["logprobs"]
    assert answers["whole"] == answers["parts"]
