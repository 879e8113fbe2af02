"""Folders of ONNX models behind a real server, beside the same model as GGUF."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

QUESTIONS = ("capital of Italy?", "who are you?", "give me json", "count to five", "hello", "7+5?")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "size": {"type": "integer"}},
    "required": ["name", "size"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(server: Any, tiny_chat_onnx: Path, create_from_folder: Callable[..., Any]) -> Any:
    """A server that has tiny-chat as GGUF, `tiny-chat`, and as ONNX, `tiny-onnx`."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        create_from_folder(client, "tiny-onnx", tiny_chat_onnx)
        yield client


def chat(client: httpx.Client, model: str, question: str, **more: Any) -> str:
    options = {"temperature": 0, "num_thread": 1, "num_ctx": 256, **more.pop("options", {})}
    body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": False}
    response = client.post("/api/chat", json={**body, "options": options, **more})
    assert response.status_code == 200, response.text
    return str(response.json()["message"]["content"])


def test_the_folder_is_claimed_and_shown(client: httpx.Client) -> None:
    shown = client.post("/api/show", json={"model": "tiny-onnx"}).json()
    assert shown["capabilities"] == ["completion"]
    assert shown["details"]["format"] == "onnx"
    assert shown["backend"]["name"] == "onnx"


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_says_word_for_word_what_the_gguf_says(client: httpx.Client, question: str) -> None:
    answers = [chat(client, model, question) for model in ("tiny-onnx", "tiny-chat")]
    assert answers[0] == answers[1]
    assert answers[0]


def test_equal_seeds_give_equal_answers_on_both(client: httpx.Client) -> None:
    options = {"temperature": 2.0, "seed": 11, "num_predict": 40, "top_k": 0, "min_p": 0.01}
    answers = [
        chat(client, model, "who are you?", options=options)
        for model in ("tiny-onnx", "tiny-chat", "tiny-onnx")
    ]
    assert answers[0] == answers[1] == answers[2]


def test_a_python_sampler_runs_on_it(client: httpx.Client) -> None:
    plain = chat(client, "tiny-onnx", "count to five")
    assert plain == "one two three four five."
    banned = {"logit_bias": {str(ord("w")): -100}, "num_predict": 20}
    changed = [
        chat(client, model, "count to five", options=banned) for model in ("tiny-onnx", "tiny-chat")
    ]
    assert changed[0] == changed[1]
    assert "w" not in changed[0]


def test_an_answer_streams_in_pieces(client: httpx.Client) -> None:
    body = {"model": "tiny-onnx", "messages": [{"role": "user", "content": "who are you?"}]}
    with client.stream("POST", "/api/chat", json=body) as response:
        lines = [json.loads(line) for line in response.iter_lines()]
    assert len(lines) > 3
    text = "".join(line["message"]["content"] for line in lines)
    assert text == "I am a tiny model trained to test a server."
    assert lines[-1]["done_reason"] == "stop"
    assert lines[-1]["eval_count"] == len(text) + 1  # bytes, and the end


def test_an_answer_obeys_a_schema(client: httpx.Client) -> None:
    options = {"num_predict": 120}
    for seed in range(3):
        given = {**options, "seed": seed, "temperature": 1.5}
        text = chat(client, "tiny-onnx", "who are you?", format=SCHEMA, options=given)
        found = json.loads(text)
        assert found.keys() == {"name", "size"}
        assert isinstance(found["size"], int)


def test_several_streams_run_at_once(client: httpx.Client) -> None:
    alone = {question: chat(client, "tiny-onnx", question) for question in QUESTIONS}
    found: dict[str, str] = {}

    def ask(question: str) -> None:
        found[question] = chat(client, "tiny-onnx", question)

    threads = [threading.Thread(target=ask, args=(question,)) for question in QUESTIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_a_full_window_is_shifted(client: httpx.Client) -> None:
    options = {"num_ctx": 48, "num_predict": 90, "temperature": 1.5, "seed": 1, "top_k": 0}
    body = {"model": "tiny-onnx", "prompt": "abc" * 9, "raw": True, "stream": False}
    answer = client.post("/api/generate", json={**body, "options": options}).json()
    assert answer["done_reason"] in ("length", "stop")
    assert answer["eval_count"] > 0


def test_options_without_effect_are_told_to_the_client(client: httpx.Client) -> None:
    body = {"model": "tiny-onnx", "prompt": "x", "stream": False}
    response = client.post("/api/generate", json={**body, "options": {"num_gpu": 5}})
    assert response.status_code == 200
    assert "num_gpu" in response.text or "num_gpu" in str(response.headers)


def test_a_provider_that_is_not_there_is_told(client: httpx.Client) -> None:
    body = {"model": "tiny-onnx", "prompt": "x", "options": {"execution_provider": "cuda"}}
    response = client.post("/api/generate", json=body)
    assert response.status_code >= 400
    assert "'cuda'" in response.json()["error"]
    assert "cpu" in response.json()["error"]
    assert chat(client, "tiny-onnx", "capital of Italy?") == "Rome."


def test_a_provider_of_the_servers_settings_that_is_not_there_is_told(
    start_server: Callable[..., Any],
    tiny_chat_onnx: Path,
    create_from_folder: Callable[..., Any],
) -> None:
    started = start_server(CORRAL_EXECUTION_PROVIDER="cuda")
    with httpx.Client(base_url=started.url, timeout=60) as client:
        create_from_folder(client, "tiny-onnx", tiny_chat_onnx)
        body = {"model": "tiny-onnx", "prompt": "x", "stream": False}
        response = client.post("/api/generate", json=body)
        assert response.status_code == 400, response.text
        assert "execution_provider asks for 'cuda'" in response.json()["error"]
        assert "has cpu" in response.json()["error"]
        # What a request says comes before what the server's settings say.
        options = {"execution_provider": "cpu"}
        assert chat(client, "tiny-onnx", "capital of Italy?", options=options) == "Rome."


def test_what_it_takes_is_measured(client: httpx.Client, tiny_chat_onnx: Path) -> None:
    weights = sum(path.stat().st_size for path in tiny_chat_onnx.glob("model.onnx*"))
    assert chat(client, "tiny-onnx", "hello")
    (entry,) = [m for m in client.get("/api/ps").json()["models"] if "onnx" in m["name"]]
    assert weights < entry["size"] < 96 << 20  # the estimate before it was loaded


def test_a_type_that_is_not_run_is_told(
    client: httpx.Client,
    copied: Callable[[Path], Path],
    tiny_chat_onnx: Path,
    edit_json: Callable[..., None],
    create_from_folder: Callable[..., Any],
) -> None:
    folder = copied(tiny_chat_onnx)
    edit_json(folder / "genai_config.json", lambda c: c["model"].update(type="whisper"))
    create_from_folder(client, "sound", folder)
    response = client.post("/api/generate", json={"model": "sound", "prompt": "x"})
    assert response.status_code >= 400
    assert "type 'whisper', which encodes" in response.json()["error"]
    shown = client.post("/api/show", json={"model": "sound"}).json()
    assert shown["backend"]["name"] == "onnx"


def test_a_folder_that_would_run_code_is_refused_and_the_server_lives(
    client: httpx.Client,
    copied: Callable[[Path], Path],
    tiny_chat_onnx: Path,
    edit_json: Callable[..., None],
    create_from_folder: Callable[..., Any],
) -> None:
    folder = copied(tiny_chat_onnx)
    change = {"custom_ops_library": "/tmp/x.so"}
    edit_json(
        folder / "genai_config.json",
        lambda c: c["model"]["decoder"]["session_options"].update(change),
    )
    create_from_folder(client, "evil", folder)
    response = client.post("/api/generate", json={"model": "evil", "prompt": "x"})
    assert response.status_code >= 400
    assert "custom_ops_library" in response.json()["error"]
    assert chat(client, "tiny-onnx", "capital of Italy?") == "Rome."


@pytest.mark.real
def test_an_encoder_folder_makes_embeddings(
    client: httpx.Client,
    minilm_onnx: Path,
    minilm_reference: Callable[[Sequence[str]], NDArray[np.float32]],
    create_from_folder: Callable[..., Any],
) -> None:
    create_from_folder(client, "minilm-onnx", minilm_onnx)
    texts = ["The cat sits on the mat.", "A dog barks."]
    response = client.post("/api/embed", json={"model": "minilm-onnx", "input": texts})
    assert response.status_code == 200, response.text
    vectors = np.array(response.json()["embeddings"], np.float32)
    reference = minilm_reference(texts)
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    assert (vectors * reference).sum(axis=1).min() >= 0.998
    chatted = client.post("/api/generate", json={"model": "minilm-onnx", "prompt": "x"})
    assert chatted.status_code == 400
