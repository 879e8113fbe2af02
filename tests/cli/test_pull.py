"""`corral pull` and `corral push`: what is sent, what is shown."""

from typing import Any

import pytest

DIGEST = "sha256:" + "6a0746a1ec1a" + "0" * 52
STEPS = [
    {"status": "pulling manifest"},
    {"status": "pulling 6a0746a1ec1a", "digest": DIGEST, "total": 100},
    {"status": "pulling 6a0746a1ec1a", "digest": DIGEST, "total": 100, "completed": 40},
    {"status": "pulling 6a0746a1ec1a", "digest": DIGEST, "total": 100, "completed": 100},
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
]
DONE = {"status": "success"}


def test_a_pull_shows_each_step_once(corral: Any, scripted: Any, answer: Any) -> None:
    scripted.on("POST", "/api/pull", answer(lines=[*STEPS, DONE]))

    result = corral("pull", "h.example/u/m:x")

    assert (result.status, result.out) == (0, "")
    assert result.err.splitlines() == [
        "pulling manifest",
        "pulling 6a0746a1ec1a",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    sent = {"model": "h.example/u/m:x", "insecure": False, "stream": True}
    assert scripted.bodies("/api/pull") == [sent]


def test_one_digest_that_is_worked_on_in_two_ways_has_two_bars(
    corral: Any, scripted: Any, answer: Any, tmp_path: Any
) -> None:
    steps = [
        {"status": status, "digest": "0" * 19, "total": 100, "completed": completed}
        for status in ("converting model", "quantizing F16 model to Q8_0")
        for completed in (0, 50, 100)
    ]
    scripted.on("POST", "/api/create", answer(lines=[*steps, DONE]))
    (tmp_path / "Modelfile").write_text("FROM a")
    result = corral("create", "m", cwd=tmp_path)
    assert result.err == "converting model\nquantizing F16 model to Q8_0\nsuccess\n"


@pytest.mark.parametrize("command", ["pull", "push"])
def test_plain_http_is_asked_for_by_a_flag(
    corral: Any, scripted: Any, answer: Any, command: str
) -> None:
    scripted.on("POST", f"/api/{command}", answer(lines=[DONE]))
    assert corral(command, "--insecure", "h/u/m").status == 0
    sent = {"model": "h/u/m", "insecure": True, "stream": True}
    assert scripted.bodies(f"/api/{command}") == [sent]


def test_an_error_in_the_middle_ends_it(corral: Any, scripted: Any, answer: Any) -> None:
    error = {"error": "pull model manifest: file does not exist"}
    scripted.on("POST", "/api/pull", answer(lines=[STEPS[0], error]))
    result = corral("pull", "m")
    assert result.status == 1
    assert result.err == "pulling manifest\nError: pull model manifest: file does not exist\n"


def test_an_answer_without_success_is_none(corral: Any, scripted: Any, answer: Any) -> None:
    scripted.on("POST", "/api/pull", answer(lines=STEPS))
    result = corral("pull", "m")
    assert result.status == 1
    assert result.err.endswith("Error: the server ended its answer without reporting success\n")


def test_a_push_to_ollama_s_registry_tells_where_the_model_is(
    corral: Any, scripted: Any, answer: Any
) -> None:
    scripted.on("POST", "/api/push", answer(lines=[{"status": "retrieving manifest"}, DONE]))
    result = corral("push", "me/mine")
    assert result.out == "\nYou can find your model at:\n\n\thttps://ollama.com/me/mine\n"
    assert corral("push", "h.example/me/mine").out == ""


def test_a_push_that_is_not_allowed_says_what_to_do(
    corral: Any, scripted: Any, answer: Any
) -> None:
    scripted.on("POST", "/api/push", answer(lines=[{"error": "unauthorized: access denied"}]))
    assert corral("push", "me/mine").err == (
        "Error: you are not authorized to push to this namespace, "
        "create the model under a namespace you own\n"
    )
    assert corral("push", "h.example/me/m").err == "Error: unauthorized: access denied\n"


@pytest.mark.parametrize("command", ["pull", "push"])
def test_one_model_is_moved_at_a_time(corral: Any, command: str) -> None:
    assert corral(command).err == "Error: accepts 1 arg(s), received 0\n"
    assert corral(command, "a", "b").err == "Error: accepts 1 arg(s), received 2\n"
