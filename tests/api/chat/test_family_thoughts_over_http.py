"""Thoughts of models whose Jinja template has marks of its own for them."""

import hashlib
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

TEMPLATED = runpy.run_path(str(Path(__file__).parents[2] / "templated_gguf.py"))
CHANNELS = "{# <|channel|>analysis<|message|> #}{{ messages[-1].content }}"
SAID = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes."


@pytest.fixture(scope="module")
def channels(server: Any) -> Iterator[httpx.Client]:
    weights = TEMPLATED["templated_gguf"](CHANNELS)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
        client.post(f"/api/blobs/{digest}", content=weights).raise_for_status()
        body: dict[str, Any] = {"model": "channels", "files": {"m.gguf": digest}, "stream": False}
        body["parameters"] = {"backend": "echo"}
        client.post("/api/create", json=body).raise_for_status()
        yield client


def test_such_a_model_is_one_that_thinks(channels: httpx.Client) -> None:
    shown = channels.post("/api/show", json={"model": "channels"}).json()
    assert "thinking" in shown["capabilities"]
    listed = channels.get("/api/tags").json()["models"]
    (found,) = (one for one in listed if one["name"] == "channels:latest")
    assert "thinking" in found["capabilities"]


@pytest.mark.parametrize("think", [None, True, "low", False])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_its_thoughts_come_apart_from_the_answer(
    channels: httpx.Client, path: str, think: Any
) -> None:
    body: dict[str, Any] = {"model": "channels", "stream": False}
    if think is not None:
        body["think"] = think
    body |= (
        {"messages": [{"role": "user", "content": SAID}]} if "chat" in path else {"prompt": SAID}
    )
    answer = channels.post(path, json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    told = told.get("message", told)
    assert told["thinking"] == "Hm."
    assert told.get("content", told.get("response")) == "Yes."
