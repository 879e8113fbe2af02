"""A server with several backends for one model: which runs it, and what clients are told."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
SETTINGS = {"CORRAL_PLUGINS": "chat,echo,llamacpp,repeat", "CORRAL_MEMORY_BUDGET": "4GiB"}
ECHOES = {"num_thread": 1, "num_predict": 40, "temperature": 0}

Start = Callable[..., Any]


class Asked:
    """A server with the model `tiny`, and ways to ask it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=60)
        self.create("tiny")

    def create(self, name: str, **parameters: Any) -> None:
        digest = f"sha256:{hashlib.sha256(TINY.read_bytes()).hexdigest()}"
        self.client.post(f"/api/blobs/{digest}", content=TINY.read_bytes()).raise_for_status()
        body = {
            "model": name,
            "files": {TINY.name: digest},
            "parameters": parameters,
            "stream": False,
        }
        self.client.post("/api/create", json=body).raise_for_status()

    def shown(self, name: str = "tiny") -> dict[str, Any]:
        answer = self.client.post("/api/show", json={"model": name}).json()
        assert list(answer)[-1] == "backend"
        return dict(answer["backend"])

    def generate(self, name: str = "tiny", **options: Any) -> httpx.Response:
        body = {"model": name, "prompt": "repeat me", "raw": True, "stream": False}
        return self.client.post("/api/generate", json={**body, "options": {**ECHOES, **options}})

    def loaded(self) -> list[tuple[str, str]]:
        models = self.client.get("/api/ps").json()["models"]
        return [(entry["name"], entry["engine"]["backend"]) for entry in models]


@pytest.fixture(scope="module")
def asked(start_server: Start) -> Iterator[Asked]:
    asked = Asked(start_server(**SETTINGS))
    with contextlib.closing(asked.client):
        yield asked


@pytest.fixture(scope="module")
def ordered(start_server: Start) -> Iterator[Asked]:
    ordered = Asked(start_server(**SETTINGS, CORRAL_BACKEND_ORDER="ghost,repeat,llamacpp"))
    with contextlib.closing(ordered.client):
        yield ordered


def test_show_tells_the_bids_of_all_and_why_one_was_chosen(asked: Asked) -> None:
    assert asked.shown() == {
        "name": "llamacpp",
        "why": "a GGUF of architecture llama",
        "confidence": 0.9,
        "chosen_by": "bid",
        "others": [
            {"name": "echo", "why": "repeats any prompt", "confidence": 0.01},
            {"name": "repeat", "why": "repeats any prompt", "confidence": 0.01},
        ],
    }


def test_a_model_s_parameter_and_a_request_s_option_choose_and_ps_agrees(asked: Asked) -> None:
    asked.create("repeats", backend="repeat")
    assert asked.shown("repeats")["name"] == "repeat"
    assert asked.shown("repeats")["chosen_by"] == "parameter"
    assert asked.generate("repeats").json()["response"] == "repeat me"
    assert asked.loaded()[0][1] == "repeat"
    assert asked.generate("repeats", backend="echo").json()["response"] == "repeat me"
    assert asked.loaded()[0][1] == "echo"
    assert asked.generate("repeats", backend="llamacpp").json()["response"] != "repeat me"
    assert asked.loaded()[0][1] == "llamacpp"


def test_a_model_loaded_on_another_backend_than_its_own_is_unloaded_too(
    asked: Asked, wait_gone: Callable[[int], None]
) -> None:
    asked.generate(backend="echo").raise_for_status()
    assert asked.loaded() == [("tiny:latest", "echo")]
    body = {"model": "tiny", "keep_alive": 0}
    assert asked.client.post("/api/generate", json=body).json()["done_reason"] == "unload"
    asked.generate(backend="repeat").raise_for_status()  # so the old worker is gone
    assert asked.loaded() == [("tiny:latest", "repeat")]


def test_a_load_that_fails_is_told_with_its_backend_and_not_done_by_another(asked: Asked) -> None:
    asked.create("fails", backend="echo", echo_load_fails=True)
    answer = asked.generate("fails")
    assert answer.status_code == 500
    assert answer.json()["error"] == (
        "echo was told to fail: unset echo_load_fails (backend 'echo' was to load it; the option "
        "backend chooses another that bids: 'llamacpp', 'repeat')"
    )
    assert asked.generate("fails", backend="repeat").json()["response"] == "repeat me"


@pytest.mark.parametrize("route", ["generate", "chat", "embed", "embeddings"])
def test_an_unknown_backend_is_a_bad_request_that_names_the_installed_ones(
    asked: Asked, route: str
) -> None:
    prompt = {"prompt": "x", "input": "x", "messages": [{"role": "user", "content": "x"}]}
    body = {"model": "tiny", "options": {"backend": "ghost"}, **prompt}
    answer = asked.client.post(f"/api/{route}", json=body)
    assert answer.status_code == 400
    error = "backend 'ghost' is not installed; installed: echo, llamacpp, repeat"
    assert answer.json() == {"error": error}


def test_an_order_goes_before_the_highest_bid_and_an_explicit_choice_before_the_order(
    ordered: Asked,
) -> None:
    shown = ordered.shown()
    assert (shown["name"], shown["chosen_by"], shown["confidence"]) == ("repeat", "order", 0.01)
    assert [other["name"] for other in shown["others"]] == ["llamacpp", "echo"]
    assert ordered.generate().json()["response"] == "repeat me"
    assert ordered.loaded() == [("tiny:latest", "repeat")]
    tags = ordered.client.get("/api/tags").json()["models"]
    assert tags[0]["capabilities"] == ["completion"]
    ordered.generate(backend="llamacpp").raise_for_status()
    assert ordered.loaded() == [("tiny:latest", "llamacpp")]
    told = [line for line in ordered.server.log if "BACKEND_ORDER" in line]
    assert len(told) == 1
    assert "backend 'ghost' is not installed; installed: echo, llamacpp, repeat" in told[0]
