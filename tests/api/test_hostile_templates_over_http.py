"""Templates that would take all of a server: each ends soon, as a refusal to who asked."""

import hashlib
import runpy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

TESTS = Path(__file__).parents[1]
TEMPLATED = runpy.run_path(str(TESTS / "templated_gguf.py"))

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
JINJA = {
    "loop": (LOOP, 400, "the template takes over"),
    "output": (
        "{% set a = messages[0].content * 1000000 %}{% for i in range(99) %}{{ a }}{% endfor %}",
        400,
        "16,777,216 fit",
    ),
    "macro": ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", 400, "nested too deeply"),
    "escape": ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", 500, "unsafe"),
}
GO = {
    "go-invocation": (
        '{{ define "f" }}{{ template "f" . }}{{ end }}{{ template "f" . }}',
        500,
        "exceeded maximum template depth",
    ),
}
CASES = {name: (status, words) for name, (_, status, words) in {**JINJA, **GO}.items()}


@pytest.fixture(scope="module")
def api(server: Any) -> Iterator[httpx.Client]:
    templated = TEMPLATED["templated_gguf"]
    with httpx.Client(base_url=server.url, timeout=120) as client:

        def create(name: str, weights: bytes, **fields: Any) -> None:
            digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
            client.post(f"/api/blobs/{digest}", content=weights).raise_for_status()
            body = {"model": name, "files": {"m.gguf": digest}, "stream": False, **fields}
            client.post("/api/create", json=body).raise_for_status()

        create("plain", (TESTS / "models" / "tiny-chat-f32.gguf").read_bytes())
        for name, (template, _, _) in JINJA.items():
            create(name, templated(template))
        for name, (template, _, _) in GO.items():
            create(name, templated(""), template=template)
        yield client


def chat(api: httpx.Client, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    options = {"num_predict": 2, "num_thread": 1}
    return api.post("/api/chat", json={**body, "options": options, **more})


@pytest.mark.parametrize("model", CASES)
def test_a_hostile_template_is_refused_and_the_model_lives(api: httpx.Client, model: str) -> None:
    status, words = CASES[model]
    answer = chat(api, model)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert "Traceback" not in answer.text
    raw = {"model": model, "prompt": "hi", "raw": True, "stream": False}
    assert api.post("/api/generate", json=raw).status_code == 200


def test_another_model_answers_while_a_hostile_template_runs(api: httpx.Client) -> None:
    assert chat(api, "plain").status_code == 200  # it is loaded
    refused: list[int] = []
    flood = [
        threading.Thread(target=lambda: refused.append(chat(api, "loop").status_code))
        for _ in range(3)
    ]
    for thread in flood:
        thread.start()
    answers = [chat(api, "plain").status_code for _ in range(5)]
    for thread in flood:
        thread.join()
    assert answers == [200] * 5
    assert refused == [400] * 3


@pytest.mark.parametrize("model", ["plain", "go-turns"])
def test_a_hundred_thousand_messages_are_answered_or_refused(api: httpx.Client, model: str) -> None:
    """By a slow machine they are refused: a rendering has some seconds."""
    if model == "go-turns":
        template = "{{ range $i, $_ := .Messages }}{{ len (slice $.Messages $i) }}{{ end }}"
        body = {"model": model, "from": "go-invocation", "template": template, "stream": False}
        api.post("/api/create", json=body).raise_for_status()
    messages = [
        {"role": "user" if i % 2 == 0 else "assistant", "content": f"word {i}"}
        for i in range(100_001)
    ]
    answer = chat(api, model, messages=messages)
    if answer.status_code != 200 or model != "plain":
        assert answer.status_code == 400, answer.text
        assert "the template" in answer.json()["error"]
    assert chat(api, "plain").status_code == 200
