"""Prompts of well-known families through the API, beside the golden files of transformers."""

import hashlib
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

TESTS = Path(__file__).parents[1]
TEMPLATED = runpy.run_path(str(TESTS / "templated_gguf.py"))
CONTEXT_TOKENS: int = TEMPLATED["CONTEXT_TOKENS"]
CASES = runpy.run_path(str(TESTS / "plugins" / "chat" / "jinjacases.py"))
GOLDEN = json.loads((TESTS / "plugins" / "chat" / "golden" / "jinja.json").read_text("utf-8"))
FAMILIES = (
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "Qwen3-Coder",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "meetkai-functionary-medium-v3.2",
    "GLM-4.6",
    "SmolLM2",
)


NUMBER = "12345678901234567890"
"""In one conversation; beyond 64 bits with a sign, and JSON's readers differ in what it is."""


@pytest.fixture(scope="module")
def api(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=120) as client:
        for name in FAMILIES:
            weights = TEMPLATED["templated_gguf"](CASES["TEMPLATES"][name])
            digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
            client.post(f"/api/blobs/{digest}", content=weights).raise_for_status()
            body = {"model": name.lower(), "files": {"m.gguf": digest}, "stream": False}
            client.post("/api/create", json=body).raise_for_status()
        yield client


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_with_tools_calls_and_results_is_that_of_transformers(
    api: httpx.Client, name: str
) -> None:
    shown = api.post("/api/show", json={"model": name.lower()}).json()
    thinks = "thinking" in shown["capabilities"]
    checked = []
    for key, case in GOLDEN["cases"][name].items():
        given = CASES["CONVERSATIONS"][key]
        if (
            NUMBER in json.dumps(given)
            or thinks != ("think" in given)
            or (given["tools"] and "tools" not in shown["capabilities"])
        ):
            continue  # a model that thinks does so unasked, and another is not to be asked
        body = {"model": name.lower(), "stream": False, "_debug_render_only": True, **given}
        answer = api.post("/api/chat", json={**body, "options": {"num_ctx": CONTEXT_TOKENS}})
        if "error" in case:
            assert answer.status_code >= 400, key
            continue
        assert answer.status_code == 200, (key, answer.text)
        text = "\n".join(GOLDEN["lines"][line] for line in case["text"])
        found = answer.json()["_debug_info"]["rendered_template"]
        assert found == text.replace("<s>", "<|endoftext|>").replace("</s>", "<|im_end|>"), key
        checked.append(key)
    assert len(checked) >= 6
