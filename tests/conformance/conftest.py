"""The contract as patterns of bytes: what is asked, and what the answer must look like.

Any server can be tested: `pytest tests/conformance --base-url http://127.0.0.1:11434` (or
`CORRAL_TEST_URL`). Only models whose name begins with `conformance-` are made there, and deleted.
Tests marked `ours` are of what Corral alone says.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

TINY_CHAT: Final = Path(__file__).parent.parent / "models" / "tiny-chat-f32.gguf"
JSON: Final = "application/json; charset=utf-8"

_FRACTION: Final = r"(?:\.\d{0,8}[1-9])?"
_MOMENT: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d" + _FRACTION
_HOLES: Final = {
    "<utc>": _MOMENT + "Z",
    "<local>": _MOMENT + r"(?:Z|[+-]\d\d:\d\d)",
    "<ns>": r"[1-9]\d*",
    "<count>": r"[1-9]\d*",
    "<hex>": "[0-9a-f]{64}",
    "<text>": r'(?:[^"\\<>&\x00-\x1f]|\\.)*',
    "<ids>": r"\[\d+(?:,\d+)*\]",
    "<number>": r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?",
    "<any>": ".*",
}
_HOLE: Final = re.compile("|".join(_HOLES))


def to_regex(pattern: str) -> str:
    """Make a regular expression of exact text with holes such as `<utc>`."""
    parts, at = [], 0
    for hole in _HOLE.finditer(pattern):
        parts += [re.escape(pattern[at : hole.start()]), _HOLES[hole[0]]]
        at = hole.end()
    return "".join(parts) + re.escape(pattern[at:])


class Api:
    """Sends as curl does (its content type is a form's, whatever the body), and compares."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        if not isinstance(body, bytes | str | None):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("content-type", "application/x-www-form-urlencoded")
        return self.client.request(method, path, content=body, headers=headers)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.send("POST", path, body, **headers)

    def lines(self, path: str, body: Any) -> list[str]:
        """Post, and give the lines of the stream that must come."""
        answer = self.post(path, body)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.text.endswith("\n")
        lines = answer.text.split("\n")[:-1]
        assert all(isinstance(json.loads(line), dict) for line in lines)
        return lines

    @staticmethod
    def check(text: str, pattern: str) -> None:
        """Compare a whole text with exact text that may have holes."""
        assert re.fullmatch(to_regex(pattern), text, re.DOTALL), f"{text}\nis not\n{pattern}"

    def check_error(self, answer: httpx.Response, status: int, error: str) -> None:
        """Compare an answer with a status and the text of an error, which may have holes."""
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"].partition(";")[0] == "application/json"
        assert list(answer.json()) == ["error"]
        self.check(answer.json()["error"], error)


@pytest.fixture(scope="session")
def base_url(request: pytest.FixtureRequest) -> str:
    given = request.config.getoption("--base-url")
    return given.rstrip("/") if given else request.getfixturevalue("server").url


@pytest.fixture(scope="session")
def api(base_url: str) -> Iterator[Api]:
    with httpx.Client(base_url=base_url, timeout=60) as client:
        yield Api(client)


@pytest.fixture(autouse=True)
def _ours_alone(request: pytest.FixtureRequest, api: Api) -> None:
    ours = request.node.get_closest_marker("ours")
    if ours and "corral_version" not in api.send("GET", "/api/version").json():
        pytest.skip("another server's answer")


@pytest.fixture(scope="session")
def tiny_digest(api: Api) -> str:
    """The digest of a small chat model's file, which the server has."""
    data = TINY_CHAT.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert api.send("POST", f"/api/blobs/{digest}", data).status_code in (200, 201)
    return digest


@pytest.fixture(scope="session")
def make_model(api: Api, tiny_digest: str) -> Iterator[Callable[..., str]]:
    """Create models of the small chat model's file; they are deleted at the end."""
    made = []

    def make(name: str, **fields: Any) -> str:
        body = {"model": name, "files": {"tiny.gguf": tiny_digest}, "stream": False, **fields}
        api.post("/api/create", body).raise_for_status()
        made.append(name)
        return name

    yield make
    for name in made:
        api.send("DELETE", "/api/delete", {"model": name})


@pytest.fixture(scope="session")
def model(api: Api, make_model: Callable[..., str]) -> str:
    """A chat model that answers in a few milliseconds and knows the capital of Italy.

    Nothing of its weights is loaded with other options, which its first answer would be told of.
    """
    name = make_model("conformance-tiny", parameters={"temperature": 0})
    api.post("/api/generate", {"model": name, "keep_alive": 0}).raise_for_status()
    return name
