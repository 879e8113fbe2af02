"""`/api/generate`: the shape of every answer, the order of checks, and what options do."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

METRICS = (
    '"total_duration":<ns>,"load_duration":<ns>,"prompt_eval_count":<count>,'
    '"prompt_eval_duration":<ns>,"eval_count":<count>,"eval_duration":<ns>'
)
PROMPT = "capital of Italy?"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


def generate(api: Any, model: str, prompt: str = PROMPT, **fields: Any) -> Any:
    body = {"model": model, "prompt": prompt, "stream": False, **fields}
    answer = api.post("/api/generate", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_stream_is_lines_of_one_object_each(api: Any, model: str) -> None:
    *chunks, last = api.lines("/api/generate", {"model": model, "prompt": PROMPT})
    for chunk in chunks:
        head = f'{{"model":"{model}","created_at":"<utc>","response":"<text>"'
        api.check(chunk, head + ',"done":false}')
    api.check(
        last,
        f'{{"model":"{model}","created_at":"<utc>","response":"","done":true,'
        f'"done_reason":"stop","context":<ids>,{METRICS}}}',
    )
    assert "".join(json.loads(chunk)["response"] for chunk in chunks) == "Rome."


def test_each_line_is_sent_as_soon_as_it_is_made(api: Any, model: str) -> None:
    body = {"model": model, "prompt": "count to five"}
    with api.client.stream("POST", "/api/generate", json=body) as answer:
        pieces = list(answer.iter_raw())
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert len(pieces) > 5


def test_one_object_holds_the_whole_answer(api: Any, model: str) -> None:
    answer = api.post("/api/generate", {"model": model, "prompt": PROMPT, "stream": False})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["content-length"] == str(len(answer.content))
    api.check(
        answer.text,
        f'{{"model":"{model}","created_at":"<utc>","response":"Rome.","done":true,'
        f'"done_reason":"stop","context":<ids>,{METRICS}}}',
    )


def test_a_null_stream_is_a_stream(api: Any, model: str) -> None:
    lines = api.lines("/api/generate", {"model": model, "prompt": PROMPT, "stream": None})
    assert len(lines) > 1


@pytest.mark.parametrize("stream", [True, False, None])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "load"),
        ({"prompt": ""}, "load"),
        ({"prompt": "", "context": [1]}, "load"),
        ({"keep_alive": "5m"}, "load"),
        ({"keep_alive": 0}, "unload"),
        ({"keep_alive": "0s", "prompt": ""}, "unload"),
    ],
    ids=str,
)
def test_without_a_prompt_the_model_is_loaded_or_unloaded(
    api: Any, model: str, fields: dict[str, Any], reason: str, stream: object
) -> None:
    answer = api.post("/api/generate", {"model": model, "stream": stream, **fields})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    api.check(
        answer.text,
        f'{{"model":"{model}","created_at":"<utc>","response":"","done":true,'
        f'"done_reason":"{reason}"}}',
    )


# --- what is refused --------------------------------------------------------------------------

WANTED_FORMAT = 'expected "json" or a valid JSON Schema object'
RAW_ONLY = "raw mode does not support template, system, or context"


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"top_logprobs": 21}, (400, "top_logprobs must be between 0 and 20")),
        ({"top_logprobs": -1}, (400, "top_logprobs must be between 0 and 20")),
        ({"raw": True, "system": "s"}, (400, RAW_ONLY)),
        ({"raw": True, "template": "t"}, (400, RAW_ONLY)),
        ({"raw": True, "context": [1]}, (400, RAW_ONLY)),
        ({"think": True}, (400, '"conformance-tiny" does not support thinking')),
        ({"think": "high"}, (400, '"conformance-tiny" does not support thinking')),
        (
            {"suffix": "s"},
            (400, "registry.ollama.ai/library/conformance-tiny:latest does not support insert"),
        ),
        ({"options": {"num_ctx": "x"}}, (500, 'option "num_ctx" must be of type integer')),
        ({"options": {"use_mmap": 1}}, (500, 'option "use_mmap" must be of type boolean')),
        ({"options": {"top_p": "x"}}, (500, 'option "top_p" must be of type float32')),
        ({"options": {"stop": "x"}}, (500, 'option "stop" must be of type array')),
        ({"options": {"stop": [1]}}, (500, 'option "stop" must be of an array of strings')),
        (
            {"format": "xml"},
            (500, f'invalid format: "\\"xml\\""; {WANTED_FORMAT}'),
        ),
        (
            {"format": {"type": "potato"}},
            (500, f'invalid format: "{{\\"type\\": \\"potato\\"}}"; {WANTED_FORMAT}: <any>'),
        ),
        (
            {"format": 1},
            (500, f'invalid format: "1"; {WANTED_FORMAT}'),
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_refused(
    api: Any, model: str, fields: dict[str, Any], answer: tuple[int, str], stream: object
) -> None:
    body = {"model": model, "prompt": PROMPT, "stream": stream, **fields}
    api.check_error(api.post("/api/generate", body), *answer)


@pytest.mark.ours
def test_images_are_refused_by_name(api: Any, model: str) -> None:
    body = {"model": model, "prompt": PROMPT, "images": [PNG]}
    error = '"conformance-tiny" does not support images: <any>'
    api.check_error(api.post("/api/generate", body), 400, error)


def test_a_request_may_bring_its_own_template(api: Any, model: str) -> None:
    body = {"model": model, "prompt": PROMPT, "system": "Be brief.", "stream": False}
    own = {"template": "[{{ .System }}] {{ .Prompt }} =", "_debug_render_only": True}
    answer = api.post("/api/generate", {**body, **own})
    assert answer.status_code == 200
    rendered = answer.json()["_debug_info"]["rendered_template"]
    assert rendered == f"[Be brief.] {PROMPT} ="


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"top_logprobs": 21, "model": "no-such"}, "top_logprobs must be between 0 and 20"),
        ({"raw": True, "system": "s", "think": True}, RAW_ONLY),
        ({"think": True, "suffix": "s"}, '"conformance-tiny" does not support thinking'),
    ],
    ids=["a bound before the model", "raw before thinking", "thinking before capabilities"],
)
def test_checks_come_in_their_order(
    api: Any, model: str, fields: dict[str, Any], error: str
) -> None:
    api.check_error(
        api.post("/api/generate", {"model": model, "prompt": "x", **fields}), 400, error
    )


def test_unloading_comes_before_all_checks_of_the_request(api: Any, model: str) -> None:
    body = {"model": model, "keep_alive": 0, "raw": True, "system": "s", "think": True}
    assert api.post("/api/generate", body).json()["done_reason"] == "unload"


@pytest.mark.parametrize(
    "fields",
    [
        {"think": False},
        {"options": {"unknown": 1, "numa": True, "mirostat": 1, "tfs_z": 0.5, "f16_kv": True}},
        {"options": {"num_predict": 40.9, "seed": 1.0, "top_k": None}},
        {"images": [], "format": "", "template": "", "system": "", "suffix": ""},
        {"format": None, "context": []},
    ],
    ids=str,
)
def test_what_is_ignored(api: Any, model: str, fields: dict[str, Any]) -> None:
    assert generate(api, model, **fields)["response"] == "Rome."


# --- what the fields do -----------------------------------------------------------------------


def test_num_predict_ends_an_answer_for_its_length(api: Any, model: str) -> None:
    answer = generate(api, model, "count to five", options={"num_predict": 3})
    assert (answer["done_reason"], answer["eval_count"]) == ("length", 3)


def test_a_stop_string_is_left_out(api: Any, model: str) -> None:
    answer = generate(api, model, "count to five", options={"stop": [" three"]})
    assert (answer["response"], answer["done_reason"]) == ("one two", "stop")


def test_raw_takes_the_prompt_as_it_is_and_gives_no_context(api: Any, model: str) -> None:
    prompt = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    answer = generate(api, model, prompt, raw=True)
    assert answer["response"] == "Rome."
    assert "context" not in answer


def test_context_goes_before_the_prompt(api: Any, model: str) -> None:
    first = generate(api, model)
    second = generate(api, model, "who are you?", context=first["context"])
    assert second["prompt_eval_count"] > len(first["context"])
    assert second["context"][: len(first["context"])] == first["context"]


def test_a_rendered_prompt_can_be_seen(api: Any, model: str) -> None:
    body = {"model": model, "prompt": PROMPT, "system": "Be brief.", "_debug_render_only": True}
    for stream in (True, False):
        answer = api.post("/api/generate", {**body, "stream": stream})
        assert answer.headers["content-type"].startswith("application/json")
        api.check(
            answer.text,
            f'{{"model":"{model}","created_at":"<utc>","response":"","done":false,'
            '"_debug_info":{"rendered_template":"\\u003c|im_start|\\u003esystem\\nBe brief.'
            "\\u003c|im_end|\\u003e\\n\\u003c|im_start|\\u003euser\\ncapital of Italy?"
            '\\u003c|im_end|\\u003e\\n\\u003c|im_start|\\u003eassistant\\n"}}',
        )


def test_logprobs_come_with_each_token(api: Any, model: str) -> None:
    token = '{"token":"<text>","logprob":<number>,"bytes":<ids>'
    *chunks, _ = api.lines("/api/generate", {"model": model, "prompt": PROMPT, "logprobs": True})
    for chunk in chunks:
        assert chunk.partition('"done":false,"logprobs":')[2]
        api.check(chunk.partition('"done":false,"logprobs":')[2], f"[{token}}}]}}")


@pytest.mark.parametrize("count", [1, 3])
def test_alternatives_are_the_likeliest_first(api: Any, model: str, count: int) -> None:
    answer = generate(api, model, logprobs=True, top_logprobs=count)
    for token in answer["logprobs"]:
        assert list(token) == ["token", "logprob", "bytes", "top_logprobs"]
        values = [other["logprob"] for other in token["top_logprobs"]]
        assert len(values) == count
        assert values == sorted(values, reverse=True)
        assert token["logprob"] == values[0]  # greedy


def test_a_seed_makes_an_answer_repeatable(api: Any, model: str) -> None:
    options = {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "seed": 42, "num_predict": 20}
    answers = [generate(api, model, options=options)["response"] for _ in range(3)]
    assert len(set(answers)) == 1


def test_json_mode_gives_an_object(api: Any, model: str) -> None:
    answer = generate(api, model, "give me json", format="json", options={"num_predict": 60})
    assert isinstance(json.loads(answer["response"]), dict)


def test_a_schema_is_kept_to(api: Any, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "size": {"enum": [3, 4]}},
        "required": ["name", "size"],
        "additionalProperties": False,
    }
    answer = generate(api, model, "give me json", format=schema, options={"num_predict": 80})
    value = json.loads(answer["response"])
    assert list(value) == ["name", "size"]
    assert value["size"] in (3, 4)


# --- keep-alive and ps ------------------------------------------------------------------------


@pytest.fixture
def loaded(api: Any, model: str) -> Iterator[str]:
    # Names of the same weights share what is loaded, which is listed under the first of them.
    deadline = time.monotonic() + 60
    while tiny := [entry for entry in listed(api) if entry["details"]["parameter_size"] == "91K"]:
        assert time.monotonic() < deadline, "the model stays loaded"
        for entry in tiny:  # other tests' models too
            api.post("/api/generate", {"model": entry["name"], "keep_alive": 0}).raise_for_status()
    api.post("/api/generate", {"model": model, "keep_alive": 300}).raise_for_status()
    yield model
    api.post("/api/generate", {"model": model, "keep_alive": 0})


def listed(api: Any) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = api.send("GET", "/api/ps").json()["models"]
    return entries


def running(api: Any, model: str) -> dict[str, Any]:
    return next(entry for entry in listed(api) if entry["name"] == f"{model}:latest")


def test_a_loaded_model_is_listed_in_full(api: Any, loaded: str) -> None:
    api.check(
        json.dumps(running(api, loaded), separators=(",", ":")),
        f'{{"name":"{loaded}:latest","model":"{loaded}:latest","size":<count>,"digest":"<hex>",'
        '"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],'
        '"parameter_size":"91K","quantization_level":"unknown"},"expires_at":"<local>",'
        '"size_vram":0,"context_length":256<any>}',
    )


@pytest.mark.ours
def test_a_loaded_model_tells_what_runs_it(api: Any, loaded: str) -> None:
    entry = running(api, loaded)
    assert list(entry)[-1] == "engine"
    assert entry["engine"]["backend"] == "llamacpp"
    assert entry["engine"]["slots"] >= 1
    assert entry["engine"]["details"]


@pytest.mark.parametrize(
    ("keep_alive", "years"), [(-1, 292), ("-1s", 292), (3600, 0), ("1.5h", 0)], ids=str
)
def test_keep_alive_moves_the_end(api: Any, loaded: str, keep_alive: int | str, years: int) -> None:
    before = int(running(api, loaded)["expires_at"][:4])
    api.post("/api/generate", {"model": loaded, "keep_alive": keep_alive}).raise_for_status()
    assert int(running(api, loaded)["expires_at"][:4]) - before in (years, years + 1)
