"""Every way to say how long a model stays, as `/api/ps` tells it of a real one."""

import datetime as dt
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MODEL = "tiny-chat"
FOREVER_S = 250 * 365 * 86_400
DEFAULT_S = 300
LOOSE_S = 30


@pytest.fixture
def api(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def listed(api: httpx.Client) -> list[dict[str, Any]]:
    return [entry for entry in _all(api) if entry["name"] == f"{MODEL}:latest"]


def left_s(api: httpx.Client) -> float:
    """Seconds until the model goes."""
    (entry,) = listed(api)
    end = dt.datetime.fromisoformat(entry["expires_at"])
    return (end - dt.datetime.now(dt.UTC)).total_seconds()


def say(api: httpx.Client, path: str = "/api/generate", **fields: Any) -> dict[str, Any]:
    options = {"num_thread": 1, "num_predict": 2}
    answer = api.post(path, json={"model": MODEL, "stream": False, "options": options, **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def until_gone(api: httpx.Client) -> None:
    end = time.monotonic() + 60
    while listed(api):
        assert time.monotonic() < end, "the model is still listed"


@pytest.fixture
def unloaded(api: httpx.Client) -> httpx.Client:
    assert say(api, keep_alive=0)["done_reason"] == "unload"
    until_gone(api)
    return api


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [
        (None, DEFAULT_S),
        (90, 90),
        (90.5, 90.5),
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("90000ms", 90),
        (-1, FOREVER_S),
        (-0.5, FOREVER_S),
        ("-1s", FOREVER_S),
        ("-1h", FOREVER_S),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_a_model_stays_for_so_long(
    unloaded: httpx.Client, path: str, keep_alive: object, seconds: float
) -> None:
    asked = {"prompt": "hi"} if path == "/api/generate" else {"messages": [{"role": "user"}]}
    say(unloaded, path, keep_alive=keep_alive, **asked)
    if seconds == FOREVER_S:
        assert left_s(unloaded) > FOREVER_S
    else:
        assert seconds - LOOSE_S < left_s(unloaded) <= seconds


@pytest.mark.parametrize("keep_alive", [0, 0.0, "0", "0s"], ids=repr)
@pytest.mark.parametrize("asked", [{}, {"prompt": "hi"}], ids=["unload", "answer"])
def test_with_none_it_goes_at_once(
    unloaded: httpx.Client, asked: dict[str, str], keep_alive: object
) -> None:
    say(unloaded, prompt="hi")
    assert listed(unloaded)
    answer = say(unloaded, keep_alive=keep_alive, **asked)
    assert answer["done_reason"] == ("length" if asked else "unload")
    until_gone(unloaded)


@pytest.mark.parametrize(
    ("keep_alive", "words"),
    [("10", 'time: missing unit in duration "10"'), (True, "Unsupported type: 'bool'")],
    ids=repr,
)
def test_what_is_no_duration_changes_nothing(
    unloaded: httpx.Client, keep_alive: object, words: str
) -> None:
    say(unloaded, prompt="hi", keep_alive=1000)
    body = {"model": MODEL, "prompt": "hi", "keep_alive": keep_alive}
    answer = unloaded.post("/api/generate", json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": words})
    assert 1000 - LOOSE_S < left_s(unloaded) <= 1000


def test_a_later_request_changes_it_only_if_it_says_so(unloaded: httpx.Client) -> None:
    for keep_alive, expected in ((1000, 1000), (None, 1000), (500, 500), (None, 500)):
        say(unloaded, prompt="hi", keep_alive=keep_alive)
        assert expected - LOOSE_S < left_s(unloaded) <= expected


def test_to_load_it_counts_as_a_request(unloaded: httpx.Client) -> None:
    assert say(unloaded, keep_alive="20m")["done_reason"] == "load"
    assert 1200 - LOOSE_S < left_s(unloaded) <= 1200


@pytest.mark.parametrize(
    ("setting", "seconds"), [("10m", 600), ("600", 600), ("-1", FOREVER_S), ("soon", DEFAULT_S)]
)
def test_the_servers_setting_is_the_default(
    start_server: Callable[..., Any], setting: str, seconds: float
) -> None:
    started = start_server(CORRAL_KEEP_ALIVE=setting)
    with httpx.Client(base_url=started.url, timeout=30) as api:
        _make(api)
        say(api, prompt="hi")
        assert left_s(api) > seconds - LOOSE_S
        assert seconds == FOREVER_S or left_s(api) <= seconds
    started.stop()


def test_a_server_that_keeps_nothing_unloads_after_each_request(
    start_server: Callable[..., Any],
) -> None:
    started = start_server(CORRAL_KEEP_ALIVE="0")
    with httpx.Client(base_url=started.url, timeout=30) as api:
        _make(api)
        say(api, prompt="hi")
        until_gone(api)
    started.stop()


def test_those_that_stay_longest_are_listed_first(start_server: Callable[..., Any]) -> None:
    started = start_server(CORRAL_MAX_LOADED_MODELS="4")
    stays: dict[str, Any] = {"some": "10m", "for-ever": -1, "least": 60, "longer": "2h"}
    with httpx.Client(base_url=started.url, timeout=60) as api:
        for name, keep_alive in stays.items():
            _make(api, name, salt=name.encode(), parameters={"backend": "echo"})
            body = {"model": name, "keep_alive": keep_alive}
            api.post("/api/generate", json=body).raise_for_status()
        names = [entry["name"].removesuffix(":latest") for entry in _all(api)]
    started.stop()
    assert names == ["for-ever", "longer", "some", "least"]


def _all(api: httpx.Client) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = api.get("/api/ps").json()["models"]
    return entries


def _make(api: httpx.Client, name: str = MODEL, salt: bytes = b"", **fields: Any) -> None:
    data = (Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf").read_bytes() + salt
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    api.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body = {"model": name, "files": {"m.gguf": digest}, "stream": False, **fields}
    api.post("/api/create", json=body).raise_for_status()
