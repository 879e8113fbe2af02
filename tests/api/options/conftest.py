"""A server that these tests have for themselves, and ways to ask it with options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
QUESTION = "capital of Italy?"

Ask = Callable[..., httpx.Response]


def asking(url: str) -> Ask:
    def ask(options: Any, path: str = "/api/generate", **fields: Any) -> httpx.Response:
        body = {"model": "options", "stream": False, "options": options, **fields}
        if path == "/api/generate":
            body.setdefault("prompt", QUESTION)
        return httpx.post(url + path, json=body, timeout=60)

    return ask


def make_model(url: str, name: str = "options", file: Path = TINY, **fields: Any) -> None:
    with ollama.Client(url) as client:
        client.create(name, files={file.name: client.create_blob(file)}, **fields)


class Tools:
    """What tests cannot import from here."""

    asking = staticmethod(asking)
    make_model = staticmethod(make_model)


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools


@pytest.fixture(scope="session")
def own(start_server: Any) -> Any:
    """A server of these tests: what they load would have others warned of reloads."""
    server = start_server.lasting()
    make_model(server.url)
    return server


@pytest.fixture(scope="session")
def ask(own: Any) -> Ask:
    """Ask a server that refuses unknown samplers, and warns of unknown options."""
    return asking(own.url)


@pytest.fixture(scope="session")
def strict(start_server: Any) -> Ask:
    """Ask a server that refuses unknown options too; its model has one."""
    server = start_server.lasting(CORRAL_STRICT_OPTIONS="1")
    make_model(server.url, parameters={"of_the_model": 1})
    return asking(server.url)


@pytest.fixture(scope="session")
def lenient(start_server: Any) -> Ask:
    """Ask a server that only warns."""
    server = start_server.lasting(CORRAL_STRICT_OPTIONS="0")
    make_model(server.url)
    return asking(server.url)
