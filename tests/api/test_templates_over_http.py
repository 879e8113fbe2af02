"""Which template a real model's prompt is put into, until Go templates are rendered too.

Where the weights hold a Jinja template it is rendered, whatever TEMPLATE says beside it; where
there is a TEMPLATE alone the request is refused in words; where there is none, the prompt is text.
"""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MODELS = Path(__file__).parents[1] / "models"
GO = "{{ .System }}[INST] {{ .Prompt }} [/INST]"
JINJA = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def without_template(data: bytes) -> bytes:
    """A GGUF whose Jinja template goes by a name that nobody asks for."""
    key = b"tokenizer.chat_template"
    at = data.index(struct.pack("<Q", len(key)) + key) + 8
    return data[:at] + b"tokenizer.chat_templatf" + data[at + len(key) :]


@pytest.fixture(scope="module")
def api(server: Any) -> Iterator[httpx.Client]:
    data = (MODELS / "tiny-chat-f32.gguf").read_bytes()
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for name, weights, fields in (
            ("jinja", data, {}),
            ("both", data, {"template": GO}),
            ("go", without_template(data), {"template": GO}),
            ("none", without_template(data), {}),
        ):
            digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
            client.post(f"/api/blobs/{digest}", content=weights).raise_for_status()
            body = {"model": name, "files": {"m.gguf": digest}, "stream": False, **fields}
            client.post("/api/create", json=body).raise_for_status()
        body = {"model": "heir", "from": "both", "system": "be brief", "stream": False}
        client.post("/api/create", json=body).raise_for_status()
        yield client


def chat(api: httpx.Client, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    return api.post("/api/chat", json={**body, "options": {"num_predict": 2}, **more})


def rendered(api: httpx.Client, model: str) -> str:
    answer = chat(api, model, _debug_render_only=True)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["_debug_info"]["rendered_template"])


def shown(api: httpx.Client, model: str) -> str:
    return str(api.post("/api/show", json={"model": model}).json()["template"])


def test_the_template_inside_the_weights_is_rendered_and_shown(api: httpx.Client) -> None:
    assert rendered(api, "jinja") == JINJA
    assert "im_start" in shown(api, "jinja")


@pytest.mark.parametrize("model", ["both", "heir"])
def test_a_go_template_beside_it_is_kept_inherited_and_shown_but_not_rendered(
    api: httpx.Client, model: str
) -> None:
    system = "" if model == "both" else "<|im_start|>system\nbe brief<|im_end|>\n"
    assert rendered(api, model) == system + JINJA
    assert shown(api, model) == GO


def test_a_go_template_alone_is_refused_with_a_way_round_it(api: httpx.Client) -> None:
    answer = chat(api, "go")
    assert answer.status_code == 500
    assert "Go template" in answer.json()["error"]
    assert "raw" in answer.json()["error"]
    assert shown(api, "go") == GO
    body = {"model": "go", "prompt": JINJA, "raw": True, "stream": False}
    assert api.post("/api/generate", json=body).status_code == 200


def test_without_any_template_the_prompt_is_the_text(api: httpx.Client) -> None:
    assert rendered(api, "none") == "hi"
    assert shown(api, "none") == "{{ .Prompt }}"
