"""Whatever names, digests and paths a client sends, and whatever lies in the store."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LIMIT_S = 60.0
few = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FRAGMENTS = st.sampled_from(
    [
        *(
            "..",
            ".",
            "/",
            "//",
            ":",
            "\\",
            "\0",
            "~",
            "%2e",
            "\u2026",
            "\u202e",
            " ",
            "\n",
            "-",
            "a",
        ),
        *("kept", "latest", "con", "manifests", "blobs", "@", "sha256", "http://", "x" * 90, "A"),
        *("/etc/passwd", "file://", ".corral-lock", "*", "{}", '"', "library", "models.lock"),
    ]
)
names = st.lists(FRAGMENTS, max_size=8).map("".join) | st.text(max_size=40)
digests = names | st.text("0123456789abcdef/.%", max_size=70).map("sha256:".__add__)


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any]) -> Any:
    found = serve(PLUGINS="echo,chat")
    found.create("kept")
    found.works("kept")
    return found


@pytest.fixture(scope="module")
def unharmed(served: Any) -> Iterator[None]:
    """After all of it the store has nothing but sound names, and nothing around it changed."""
    home = served.server.home
    beside = {path.name for path in home.iterdir()}
    yield
    assert {path.name for path in home.iterdir()} <= beside | {"sources"}
    for path in (home / "models" / "manifests").rglob("*"):
        parts = path.relative_to(home / "models" / "manifests").parts
        assert len(parts) <= 4
        assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*", part) for part in parts)
    for path in (home / "models" / "blobs").iterdir():
        assert re.fullmatch(r"sha256-[0-9a-f]{64}", path.name), path
    log = "".join(served.server.log)
    assert "Traceback" not in log
    served.works("kept")


def told(answer: httpx.Response) -> None:
    """Done, or refused in words: what is unforeseen has none."""
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        assert answer.content, f"{answer.request.method} {answer.request.url}"


@few
@given(name=names, other=names, data=st.data())
def test_requests_with_any_names_are_done_or_refused_in_words(
    served: Any, unharmed: None, name: str, other: str, data: Any
) -> None:
    digest = data.draw(digests)
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "/api/show": ("POST", {"model": name}),
        "/api/copy": ("POST", {"source": "kept", "destination": other}),
        "/api/create": ("POST", {"model": name, "files": {other: digest}, "stream": False}),
        "/api/generate": ("POST", {"model": name, "stream": False}),
        "/api/pull": ("POST", {"model": name, "stream": False}),
        "/api/push": ("POST", {"model": name, "stream": False}),
        "/api/lock": ("POST", {"models": [name]}),
        "/api/delete": ("DELETE", {"model": other if other.strip() != "kept" else "none"}),
    }
    for path, (method, body) in bodies.items():
        told(served.client.request(method, path, json=body))
    locked = {"model": name, "locked": f'version = 1\n[models."{digest}"]\n', "stream": False}
    told(served.client.post("/api/pull", json=locked))


@few
@given(digest=digests, content=st.binary(max_size=20))
def test_blobs_of_any_digest_are_stored_or_refused_in_words(
    served: Any, unharmed: None, digest: str, content: bytes
) -> None:
    path = f"/api/blobs/{quote(digest, safe=':')}"
    told(served.client.head(path))
    told(served.client.post(path, content=content))


@pytest.mark.parametrize("kind", ["pipe", "zeros", "itself"])
def test_what_is_no_file_in_the_store_holds_up_no_request(served: Any, kind: str) -> None:
    models = served.server.home / "models"
    served.create(f"odd-{kind}")
    manifest = models / "manifests" / "h" / "n" / kind / "latest"
    manifest.parent.mkdir(parents=True)
    shown = served.client.post("/api/show", json={"model": f"odd-{kind}"}).json()["modelfile"]
    weights = Path(shown.partition("\nFROM ")[2].partition("\n")[0])
    assert weights.parent == models / "blobs"
    weights.unlink()
    for place in (manifest, weights):
        if kind == "pipe":
            os.mkfifo(place)
        else:
            place.symlink_to("/dev/zero" if kind == "zeros" else place.name)

    for name in (f"h/n/{kind}", f"odd-{kind}"):
        for path in ("/api/show", "/api/generate"):
            body = {"model": name, "prompt": "x", "raw": True, "stream": False}
            told(served.client.post(path, json=body, timeout=LIMIT_S))
    listed = {m["name"] for m in served.client.get("/api/tags", timeout=LIMIT_S).json()["models"]}
    assert "kept:latest" in listed
    assert f"h/n/{kind}:latest" not in listed
    told(served.client.post("/api/gc", json={"all": True}, timeout=LIMIT_S))
    served.create(f"odd-{kind}")  # its weights come again
    served.works(f"odd-{kind}")
    manifest.unlink()
