"""How each route reads the name of a model, and what it says where there is none."""

from typing import Any

import pytest

NOT_FOUND = "model 'no-such' not found"
TRY_PULLING = 'model "no-such" not found, try pulling it first'
CLOUD = "ollama cloud is disabled: remote model is unavailable"
BOTH = 'use either :local or :cloud, not both: "a:local:cloud"'


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("generate", {}, 404, "model '' not found"),
        ("generate", {"model": "  "}, 404, "model '' not found"),
        ("generate", {"name": "no-such"}, 404, "model '' not found"),
        ("generate", {"model": "no-such"}, 404, NOT_FOUND),
        ("generate", {"model": "No-Such:1b"}, 404, "model 'No-Such:1b' not found"),
        ("generate", {"model": "no-such:local"}, 404, "model 'no-such:local' not found"),
        ("generate", {"model": "a/b/c/d"}, 400, "invalid model name"),
        ("generate", {"model": "../../etc/passwd"}, 400, "invalid model name"),
        ("generate", {"model": "a:local:cloud"}, 400, BOTH),
        ("chat", {}, 400, "model is required"),
        ("chat", {"model": "no-such", "messages": []}, 404, NOT_FOUND),
        ("chat", {"model": ":x"}, 400, "invalid model name"),
        ("embed", {}, 404, "model '' not found"),
        ("embed", {"model": "no-such", "input": "x"}, 404, TRY_PULLING),
        ("embeddings", {}, 400, "model is required"),
        ("embeddings", {"model": "no-such", "prompt": "x"}, 404, TRY_PULLING),
        ("show", {}, 400, "model is required"),
        ("show", {"model": "no-such"}, 404, "model 'no-such:latest' not found"),
        ("show", {"name": "u/no-such"}, 404, "model 'u/no-such:latest' not found"),
        ("show", {"model": "x "}, 404, "model 'x:latest' not found"),
        ("show", {"model": "a:b:c"}, 400, "invalid model name"),
        ("copy", {}, 400, 'source "" is invalid'),
        ("copy", {"source": "a"}, 400, 'destination "" is invalid'),
        ("copy", {"source": "a", "destination": "a:b:c"}, 400, 'destination "a:b:c" is invalid'),
        ("copy", {"source": "no-such", "destination": "b"}, 404, 'model "no-such" not found'),
        ("push", {}, 400, "model is required"),
        ("pull", {}, 400, "invalid model name"),
        ("create", {"from": "a"}, 400, "invalid model name"),
        ("create", {"model": "a b", "from": "a"}, 400, "invalid model name"),
    ],
)
def test_names(api: Any, path: str, body: Any, status: int, error: str) -> None:
    api.check_error(api.post(f"/api/{path}", body), status, error)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "model is required"),
        ({"model": "no-such"}, 404, NOT_FOUND),
        ({"name": "no-such"}, 404, NOT_FOUND),
        ({"model": "a:b:c"}, 400, 'name "a:b:c" is invalid'),
        ({"model": "no-such:cloud"}, 404, "model 'no-such:cloud' not found"),
    ],
)
def test_names_to_delete(api: Any, body: Any, status: int, error: str) -> None:
    api.check_error(api.send("DELETE", "/api/delete", body), status, error)


@pytest.mark.ours
@pytest.mark.parametrize("name", ["m:cloud", "gpt-oss:20b-cloud", "M:CLOUD"])
@pytest.mark.parametrize("route", ["generate", "chat", "embed", "embeddings"])
def test_cloud_models_are_refused(api: Any, route: str, name: str) -> None:
    api.check_error(api.post(f"/api/{route}", {"model": name}), 403, CLOUD)


@pytest.mark.ours
def test_details_of_cloud_models_are_refused(api: Any) -> None:
    error = "ollama cloud is disabled: remote model details are unavailable"
    api.check_error(api.post("/api/show", {"model": "m:cloud"}), 403, error)


@pytest.mark.parametrize(
    "spelling",
    [
        "conformance-tiny",
        "Conformance-Tiny:LATEST",
        "library/conformance-tiny",
        "registry.ollama.ai/library/conformance-tiny:latest",
        " conformance-tiny ",
        "conformance-tiny:local",
    ],
)
def test_a_model_has_many_spellings_and_is_echoed_in_the_one_sent(
    api: Any, model: str, spelling: str
) -> None:
    answer = api.post("/api/generate", {"model": spelling})
    assert answer.status_code == 200
    assert answer.json()["model"] == spelling


def test_the_older_embeddings_route_minds_the_case(api: Any, model: str) -> None:
    error = 'model "CONFORMANCE-tiny" not found, try pulling it first'
    api.check_error(api.post("/api/embeddings", {"model": "CONFORMANCE-tiny"}), 404, error)
