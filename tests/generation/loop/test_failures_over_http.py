"""What a client hears of a sampler or format that fails."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest


@pytest.fixture(scope="module")
def client(
    installed: None, start_server: Callable[..., Any], models: Path
) -> Iterator[httpx.Client]:
    url = start_server(CORRAL_SAMPLER_TIMEOUT="300ms").url
    with httpx.Client(base_url=url, timeout=60) as client:
        data = (models / "tiny-chat-f32.gguf").read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        body = {"model": "tiny", "files": {"model.gguf": digest}, "stream": False}
        client.post("/api/create", json=body).raise_for_status()
        yield client


def ask(client: httpx.Client, route: str, options: dict[str, Any], **more: Any) -> httpx.Response:
    body = {"model": "tiny", "options": {"num_thread": 1, **options}, **more}
    if route == "generate":
        return client.post("/api/generate", json={"prompt": "x", "raw": True, **body})
    messages = [{"role": "user", "content": "x"}]
    return client.post("/api/chat", json={"messages": messages, **body})


@pytest.mark.parametrize("route", ["chat", "generate"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("raises", "sampler 'trouble' failed: ValueError: no luck"),
        ("loops", "sampler 'trouble' failed: it took over 0.3 s (CORRAL_SAMPLER_TIMEOUT)"),
    ],
)
def test_a_failed_sampler_is_named_with_status_500(
    client: httpx.Client, route: str, trouble: str, words: str, *, stream: bool
) -> None:
    options = {"samplers": ["trouble"], "trouble": trouble, "trouble_at": 1}
    answer = ask(client, route, options, stream=stream)
    assert (answer.status_code, answer.json()) == (500, {"error": words})


def test_a_stream_that_began_ends_with_the_words(client: httpx.Client) -> None:
    options = {"samplers": ["trouble"], "trouble": "raises", "trouble_at": 4}
    answer = ask(client, "generate", options)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.status_code == 200
    assert len(lines) > 1
    assert lines[-1] == {"error": "sampler 'trouble' failed: ValueError: no luck"}
    assert "Traceback" not in answer.text


def test_a_failed_format_is_named_with_status_500(client: httpx.Client) -> None:
    form = {"type": "letters", "trouble": "raises", "in": "accept"}
    answer = ask(client, "chat", {}, format=form)
    words = "format 'letters' failed: ValueError: no luck"
    assert (answer.status_code, answer.json()) == (500, {"error": words})


def test_more_slots_than_there_are_is_the_clients_error(client: httpx.Client) -> None:
    options = {"samplers": ["twins"], "twins": ["a"] * 40}
    answer = ask(client, "generate", options)
    assert answer.status_code == 400
    assert "needs 41 slots at once" in answer.json()["error"]


def test_a_guided_answer_counts_its_own_prompt_alone(client: httpx.Client) -> None:
    options = {"cfg_scale": 2.0, "negative_prompt": "long " * 20, "num_predict": 5}
    answer = ask(client, "generate", options, stream=False).json()
    assert (answer["prompt_eval_count"], answer["eval_count"]) == (1, 5)


def test_what_a_draft_option_does_not_do_is_told(client: httpx.Client) -> None:
    options = {"cfg_scale": 2.0, "num_predict": 3, "draft_num_predict": 4}
    answer = ask(client, "chat", options, stream=False).json()
    words = 'option "draft_num_predict" is ignored: a sampler of this request compares prompts'
    assert any(warning.startswith(words) for warning in answer["warnings"])
