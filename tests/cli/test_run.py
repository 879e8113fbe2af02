import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

INFO: dict[str, Any] = {"details": {}, "capabilities": ["completion"], "model_info": {}}
TIMINGS: dict[str, Any] = {
    "total_duration": 1_520_000_000,
    "load_duration": 12_300_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 40_000_000,
    "eval_count": 298,
    "eval_duration": 1_400_000_000,
}


def _chunk(text: str = "", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "created_at": "2026-08-21T10:00:00Z", "response": text, "done": False} | (
        fields
    )


DONE = _chunk(done=True, done_reason="stop", **TIMINGS)


@pytest.fixture
def generate(scripted: Any, answer: Any) -> Any:
    """Scripts the model's answer: the lines of one stream."""

    def script(*lines: Any, info: dict[str, Any] = INFO, **fields: Any) -> None:
        scripted.on("POST", "/api/show", answer(info))
        scripted.on("POST", "/api/generate", answer(lines=list(lines), **fields))

    return script


def test_one_answer_goes_to_standard_output(generate: Any, corral: Any, scripted: Any) -> None:
    generate(_chunk("Hel"), _chunk("lo\x07"), DONE)

    result = corral("run", "m", "say", "hello")

    assert (result.status, result.out, result.err) == (0, "Hello\x07\n\n", "")
    assert [(r.method, r.path) for r in scripted.received] == [
        ("HEAD", "/"),
        ("POST", "/api/show"),
        ("POST", "/api/generate"),
    ]
    assert scripted.bodies("/api/generate") == [{"prompt": "say hello", "model": "m"}]


def test_piped_text_comes_before_the_arguments(generate: Any, corral: Any, scripted: Any) -> None:
    generate(_chunk("ok"), DONE)

    corral("run", "m", "and", "this", stdin="from a file\n")

    assert scripted.bodies("/api/generate")[0]["prompt"] == "from a file\n and this"


def test_flags_become_fields_of_the_request(generate: Any, corral: Any, scripted: Any) -> None:
    generate(_chunk("{}"), DONE)
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}

    corral("run", "m", "x", "--format", json.dumps(schema), "--keepalive", "1.5h", "--think=high")
    corral("run", "m", "x", "--format", "json", "--keepalive", "-1", "--think")

    first, second = scripted.bodies("/api/generate")
    fields = {"model": "m", "prompt": "x"}
    assert first == fields | {"format": schema, "keep_alive": "1h30m0s", "think": "high"}
    assert second == fields | {"format": "json", "keep_alive": -1, "think": True}


@pytest.mark.parametrize(
    ("capabilities", "args", "think"),
    [
        (["completion", "thinking"], [], True),
        (["completion"], [], None),
        (["completion", "thinking"], ["--think=false"], False),
    ],
    ids=["able", "unable", "told not to"],
)
def test_a_model_that_can_think_does(
    capabilities: list[str],
    args: list[str],
    think: object,
    generate: Any,
    corral: Any,
) -> None:
    generate(_chunk("ok"), DONE, info=INFO | {"capabilities": capabilities})
    corral("run", "m", "x", *args)
    assert corral.server.bodies("/api/generate")[0].get("think") is think


def test_thinking_is_set_apart_or_hidden(generate: Any, corral: Any) -> None:
    generate(_chunk(thinking="Hm"), _chunk(thinking="m."), _chunk("Yes."), DONE)

    shown = corral("run", "m", "x").out
    hidden = corral("run", "m", "x", "--hidethinking").out

    assert shown == "Thinking...\nHmm.\n...done thinking.\n\nYes.\n\n"
    assert hidden == "Yes.\n\n"


def test_tool_calls_are_told(generate: Any, corral: Any) -> None:
    call = {"function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
    generate(_chunk(**DONE | {"tool_calls": [call]}))

    assert corral("run", "m", "x").out == (
        "  Model called a non-existent function 'f()' with arguments: {\"a\": 1}\n\n\n"
    )


def test_verbose_prints_timings_on_standard_error(generate: Any, corral: Any) -> None:
    generate(_chunk("ok"), DONE)

    assert corral("run", "m", "x", "--verbose").err == (
        "total duration:       1.52s\n"
        "load duration:        12.3ms\n"
        "prompt eval count:    26 token(s)\n"
        "prompt eval duration: 40ms\n"
        "prompt eval rate:     650.00 tokens/s\n"
        "eval count:           298 token(s)\n"
        "eval duration:        1.4s\n"
        "eval rate:            212.86 tokens/s\n"
    )


def test_no_prompt_at_all_loads_the_model(generate: Any, corral: Any, scripted: Any) -> None:
    generate(_chunk(done=True, done_reason="load"))

    result = corral("run", "m")

    assert (result.status, result.out) == (0, "")
    assert scripted.bodies("/api/generate") == [{"prompt": "", "model": "m"}]


def test_an_embedding_model_prints_its_vector(corral: Any, scripted: Any, answer: Any) -> None:
    scripted.on("POST", "/api/show", answer(INFO | {"capabilities": ["embedding"]}))
    scripted.on("POST", "/api/embed", answer({"embeddings": [[0.1, -0.25, 3]]}))

    result = corral("run", "m", "some text", "--truncate=false", "--dimensions", "3")
    empty = corral("run", "m")

    assert json.loads(result.out) == [0.1, -0.25, 3]
    assert scripted.bodies("/api/embed") == [
        {"model": "m", "input": "some text", "truncate": False, "dimensions": 3}
    ]
    assert empty.status == 1
    assert empty.err == (
        'Error: embedding models require input text. Usage: corral run m "your text here"\n'
    )


def test_what_only_vectors_have_is_ignored_aloud(generate: Any, corral: Any) -> None:
    generate(_chunk(done=True, done_reason="stop"))

    result = corral("run", "m", "x", "--dimensions", "3")

    assert result.status == 0
    assert result.err == "warning: --dimensions is ignored: m makes no vectors\n"


def test_a_model_that_is_not_here_is_pulled_first(corral: Any, scripted: Any, answer: Any) -> None:
    steps = [{"status": "pulling manifest"}, {"status": "success"}]

    def show(_request: Any) -> Any:
        if not scripted.bodies("/api/pull"):
            return answer({"error": "model 'm:latest' not found"}, 404)
        return answer({"capabilities": ["completion"]})

    scripted.on("POST", "/api/show", show)
    scripted.on("POST", "/api/pull", answer(lines=steps))
    scripted.on("POST", "/api/generate", answer(lines=[_chunk("hello"), _chunk("", done=True)]))

    result = corral("run", "m", "x", "--insecure")

    assert (result.status, result.out) == (0, "hello\n\n")
    assert result.err == "pulling manifest\nsuccess\n"
    assert scripted.bodies("/api/pull") == [{"model": "m", "insecure": True, "stream": True}]


def test_a_model_that_nobody_has_is_an_error_that_names_the_known_ones(
    corral: Any, scripted: Any, answer: Any
) -> None:
    error = "pull model manifest: file does not exist"
    scripted.on("POST", "/api/show", answer({"error": "model 'm:latest' not found"}, 404))
    scripted.on(
        "POST", "/api/pull", answer(lines=[{"status": "pulling manifest"}, {"error": error}])
    )
    scripted.on("GET", "/api/tags", answer({"models": [{"name": "smollm2:latest"}]}))

    result = corral("run", "m", "x")

    assert (result.status, result.out) == (1, "")
    assert result.err == (
        f"pulling manifest\nError: {error}\n"
        "'corral list' shows the models that are here: smollm2:latest\n"
    )


@pytest.mark.parametrize(
    ("reply", "out", "message"),
    [
        (
            {"lines": [{"error": "no room"}], "status": 500},
            "",
            "500 Internal Server Error: no room",
        ),
        ({"lines": [_chunk("half"), {"error": "worker died"}]}, "half", "worker died"),
        ({"lines": [_chunk("half"), b"\n"]}, "half", "unreadable line from the server: "),
        ({"lines": [_chunk("half"), b"<html>\n"]}, "half", "unreadable line from the server: "),
        ({"lines": [_chunk("half")], "cut": True}, "half", "closed the connection in the middle"),
    ],
    ids=["status", "line", "blank", "no JSON", "cut"],
)
def test_an_answer_that_fails_says_so_behind_what_came(
    reply: dict[str, Any], out: str, message: str, generate: Any, corral: Any
) -> None:
    generate(*reply["lines"], **{k: v for k, v in reply.items() if k != "lines"})

    result = corral("run", "m", "x")

    assert (result.status, result.out) == (1, out)
    assert result.err.startswith("Error: ")
    assert message in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_path_in_the_place_of_a_model_is_told_how_to_become_one(
    kind: str, corral: Any, scripted: Any, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf" if kind == "file" else tmp_path
    (tmp_path / "m.gguf").write_bytes(b"GGUF")

    result = corral("run", str(path), "hi")

    assert result.status == 1
    assert f"Error: invalid model name: {path} is a path; write FROM {path} into" in result.err
    assert scripted.bodies("/api/show") == []


def test_a_line_of_more_than_eight_megabytes_is_refused(generate: Any, corral: Any) -> None:
    generate(b"x" * (8 * 1024 * 1024 + 1))
    assert "a line of over 8388608 bytes" in corral("run", "m", "x").err


def test_an_answer_without_its_last_line_gets_a_warning(generate: Any, corral: Any) -> None:
    generate(_chunk("half"))

    result = corral("run", "m", "x")

    assert (result.status, result.out) == (0, "half\n\n")
    assert result.err == (
        "Warning: the answer ended without its last line, as servers end one in which "
        "the same piece came 32 times in a row\n"
    )


def test_an_interrupt_stops_the_answer_quietly(generate: Any, corral: Any, scripted: Any) -> None:
    never = threading.Event()
    generate(_chunk("half"), DONE, hold=never)
    process = subprocess.Popen(
        [sys.executable, "-m", "corral_cli", "run", "m", "x"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=corral.env,
    )
    assert process.stdout is not None
    assert process.stdout.read(4) == b"half"

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err) == (0, b"", b"")
    assert scripted.gone.wait(60), "the server was not told"
