"""Models of the echo backend, which say what the last message says."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

SAYS = (
    "{{ range $i, $m := .Messages }}%s"
    "{{ if eq (len (slice $.Messages $i)) 1 }}{{ .Content }}{{ end }}{{ end }}"
)
CALLS = (
    "{{ if .ToolCalls }}<tool_call>\n{{ range .ToolCalls }}"
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}\n'
    "{{ end }}</tool_call>{{ end }}"
)
THINKS = "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
TOOLS = "{{ if .Tools }}{{ end }}"
TEMPLATES = {
    "plain": SAYS % "",
    "tools": TOOLS + SAYS % CALLS,
    "thinks": SAYS % THINKS,
    "both": TOOLS + SAYS % (CALLS + THINKS),
}
TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"

Ask = Callable[..., httpx.Response]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [*properties]}
    function = {"name": name, "description": "d", "parameters": parameters}
    return {"type": "function", "function": function}


WEATHER = tool("get_weather", city={"type": "string", "maxLength": 8})
MOST = {"type": "integer", "minimum": 0, "maximum": 9}
SEARCH = tool("search", q={"enum": ["sun", "moon"]}, most=MOST)


@pytest.fixture(scope="session")
def weather() -> dict[str, Any]:
    return WEATHER


@pytest.fixture(scope="session")
def search() -> dict[str, Any]:
    return SEARCH


@pytest.fixture(scope="module")
def api(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        data = TINY.read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        for name, template in TEMPLATES.items():
            body = {
                "model": f"says-{name}",
                "files": {"m.gguf": digest},
                "template": template,
                "parameters": {"backend": "echo"},
                "stream": False,
            }
            client.post("/api/create", json=body).raise_for_status()
        yield client


@pytest.fixture
def say(api: httpx.Client) -> Ask:
    """Have a model say a text."""

    def ask(model: str, text: str, path: str = "/api/chat", **more: Any) -> httpx.Response:
        body: dict[str, Any] = {"model": f"says-{model}", "stream": False}
        if path == "/api/chat":
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["prompt"] = text
        options = {"num_predict": 400, "seed": 7, **more.pop("options", {})}
        return api.post(path, json={**body, **more, "options": options})

    return ask
