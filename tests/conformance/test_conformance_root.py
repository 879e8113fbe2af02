"""The small routes: version, status, and what a server without a cloud says."""

from typing import Any

import pytest


def test_the_version_is_one_that_clients_accept(api: Any) -> None:
    answer = api.send("GET", "/api/version")
    api.check(answer.text.partition(",")[0].removesuffix("}"), '{"version":"<any>"')
    parts = answer.json()["version"].split(".")
    assert all(part.isdecimal() for part in parts)
    assert tuple(map(int, parts)) >= (0, 6, 4)


def test_the_status_tells_of_the_cloud(api: Any) -> None:
    answer = api.send("GET", "/api/status")
    assert list(answer.json()["cloud"]) == ["disabled", "source"]
    assert answer.json()["cloud"]["source"] in ("none", "env", "config", "both")


@pytest.mark.ours
@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/api/me", "", (503, '{"error":"account unavailable"}')),
        ("POST", "/api/signout", "", (401, '{"error":"you are not currently signed in"}')),
        ("DELETE", "/api/user/keys/abc", "", (401, '{"error":"you are not currently signed in"}')),
        (
            "POST",
            "/api/experimental/web_search",
            '{"query":"x"}',
            (403, '{"error":"ollama cloud is disabled: web search is unavailable"}'),
        ),
        (
            "POST",
            "/api/experimental/web_fetch",
            '{"url":"x"}',
            (403, '{"error":"ollama cloud is disabled: web fetch is unavailable"}'),
        ),
        ("POST", "/api/experimental/web_fetch", "", (400, '{"error":"missing request body"}')),
        ("GET", "/api/experimental/model-recommendations", None, (200, '{"recommendations":[]}')),
        ("GET", "/api/status", None, (200, '{"cloud":{"disabled":true,"source":"config"}}')),
        ("GET", "/v1/models", None, (404, "404 page not found")),
    ],
)
def test_what_corral_has_no_service_for(
    api: Any, method: str, path: str, body: str | None, expected: tuple[int, str]
) -> None:
    answer = api.send(method, path, body)
    assert (answer.status_code, answer.text) == expected


@pytest.mark.ours
def test_plugins_are_listed_with_what_they_give(api: Any) -> None:
    answer = api.send("GET", "/api/plugins").json()
    assert list(answer) == ["plugins", "clashes", "changes"]
    llamacpp = next(entry for entry in answer["plugins"] if entry["name"] == "llamacpp")
    assert llamacpp["distribution"] == "corral"
    assert llamacpp["status"] == "ok"
    assert "corral_claim" in llamacpp["hooks"]
    assert llamacpp["provides"] == {"backends": ["llamacpp"], "quantizers": ["llamacpp"]}
