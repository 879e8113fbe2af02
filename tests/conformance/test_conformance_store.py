"""Models as things: blobs, create, copy, delete, the list, and what is shown."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

BLOB = b"no model, but a blob"
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
ABSENT = f"sha256:{'0' * 64}"


# --- blobs ------------------------------------------------------------------------------------


def test_a_blob_is_stored_once(api: Any) -> None:
    first = api.send("POST", f"/api/blobs/{DIGEST}", BLOB)
    assert first.status_code in (200, 201)  # 200 if an earlier run left it
    again = api.send("POST", f"/api/blobs/{DIGEST}", b"not even read")
    head = api.send("HEAD", f"/api/blobs/{DIGEST}")
    for answer, status in ((again, 200), (head, 200)):
        assert (answer.status_code, answer.content) == (status, b"")
        assert answer.headers["content-length"] == "0"
        assert "content-type" not in answer.headers


@pytest.mark.parametrize(
    ("digest", "status"),
    [(ABSENT, 404), (ABSENT.replace(":", "-"), 404), ("sha256:12", 400), ("md5:" + "0" * 64, 400)],
)
def test_head_tells_of_blobs_that_are_not_there(api: Any, digest: str, status: int) -> None:
    answer = api.send("HEAD", f"/api/blobs/{digest}")
    assert (answer.status_code, answer.content) == (status, b"")


def test_a_blob_needs_a_digest(api: Any) -> None:
    api.check_error(api.send("POST", "/api/blobs/sha256:12", b"x"), 400, "invalid digest format")


def test_a_blob_with_another_digest_is_refused_and_kept_under_its_own(api: Any) -> None:
    data = b"a blob under a wrong name"
    true = f"sha256:{hashlib.sha256(data).hexdigest()}"
    answer = api.send("POST", f"/api/blobs/{ABSENT}", data)
    error = f'digest mismatch, expected "{ABSENT}", got "{true}"'
    api.check_error(answer, 400, error)
    assert api.send("HEAD", f"/api/blobs/{true}").status_code == 200
    assert api.send("HEAD", f"/api/blobs/{ABSENT}").status_code == 404


def test_a_blob_may_come_in_chunks_and_be_large(api: Any) -> None:
    piece = bytes(range(256)) * 4096
    count = 24  # larger than the body that a JSON route takes by default elsewhere (10 MB)
    digest = hashlib.sha256(piece * count).hexdigest()
    answer = api.client.post(f"/api/blobs/sha256:{digest}", content=iter([piece] * count))
    assert answer.status_code in (200, 201)


# --- create -----------------------------------------------------------------------------------


def test_creating_from_a_file_tells_each_step(api: Any, tiny_digest: str) -> None:
    lines = api.lines(
        "/api/create",
        {
            "model": "conformance-created",
            "files": {"tiny.gguf": tiny_digest},
            "system": "Be brief.",
            "parameters": {"temperature": 0, "stop": ["one", "two"]},
            "license": ["first", "second"],
            "messages": [{"role": "user", "content": "hi"}],
        },
    )
    assert lines[0] == '{"status":"parsing GGUF"}'
    assert lines[-2:] == ['{"status":"writing manifest"}', '{"status":"success"}']
    layers = [line for line in lines if " layer sha256:" in line]
    assert len(layers) == 6  # weights, system, two licences, parameters, messages
    for line in layers:
        what = "using existing" if "using" in line else "creating new"
        api.check(line, f'{{"status":"{what} layer sha256:<hex>"}}')


@pytest.fixture(scope="session")
def created(make_model: Callable[..., str]) -> str:
    return make_model(
        "conformance-shown",
        system="Be brief.",
        template="{{ .Prompt }}!",
        parameters={"temperature": 0.5, "num_ctx": 131072, "stop": ["one", 'say "two"']},
        license=["first", "second"],
        messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
    )


def test_creating_without_a_stream_gives_the_last_step(api: Any, created: str) -> None:
    body = {"model": "conformance-derived", "from": created, "stream": False}
    answer = api.post("/api/create", body)
    assert (answer.status_code, answer.text) == (200, '{"status":"success"}')
    assert answer.headers["content-type"] == "application/json"
    api.send("DELETE", "/api/delete", {"model": "conformance-derived"})


def test_a_model_made_of_another_inherits_what_is_not_replaced(api: Any, created: str) -> None:
    body = {"model": "conformance-heir", "from": created, "system": "Be long.", "stream": False}
    api.post("/api/create", body).raise_for_status()
    shown = api.post("/api/show", {"model": "conformance-heir"}).json()
    api.send("DELETE", "/api/delete", {"model": "conformance-heir"})
    assert shown["system"] == "Be long."
    assert shown["template"] == "{{ .Prompt }}!"
    assert shown["details"]["parent_model"] == f"{created}:latest"
    assert shown["license"] == "first\nsecond"


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({}, 400, "neither 'from' or 'files' was specified"),
        ({"files": {}}, 400, "unknown type"),
        ({"files": {"/a.gguf": ABSENT}}, 400, "file path must be relative"),
        ({"files": {"a/../b.gguf": ABSENT}}, 400, "file path must be relative"),
        ({"files": {"a.gguf": ""}}, 400, "invalid digest format"),
        ({"files": {"a.gguf": "sha256:1"}}, 500, "invalid digest format"),
        (
            {"files": {"a.gguf": ABSENT}},
            500,
            f"open <any>{ABSENT.replace(':', '-')}: no such file or directory",
        ),
        ({"files": {"a.gguf": DIGEST}}, 400, "supplied file was not in GGUF format"),
        ({"files": {"a.bin": DIGEST}}, 400, "unknown type"),
        ({"from": "a:b:c"}, 400, "invalid model name"),
        ({"from": "conformance-tiny", "info": {"base_name": 1}}, 400, "<any>must be a string"),
        ({"from": "conformance-tiny", "remote_host": "gopher://x"}, 400, "bad remote<any>"),
        (
            {"from": "a", "remote_host": "https://ollama.com", "draft_files": {"d": DIGEST}},
            400,
            "DRAFT cannot be used with remote models",
        ),
    ],
)
def test_what_cannot_be_created(
    api: Any, model: str, fields: dict[str, Any], status: int, error: str
) -> None:
    api.send("POST", f"/api/blobs/{DIGEST}", BLOB)
    answer = api.post("/api/create", {"model": "conformance-none", **fields, "stream": False})
    api.check_error(answer, status, error)


@pytest.mark.ours
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"remote_host": "x"}, "this server cannot run this remote model: x is not listed<any>"),
    ],
)
def test_what_this_release_does_not_create(
    api: Any, model: str, fields: dict[str, Any], error: str
) -> None:
    body = {"model": "conformance-none", "from": model, **fields}
    api.check_error(api.post("/api/create", body), 400, error)


NOBODY = "127.0.0.1:1/conformance/none"
"""A model of a registry that is not there."""


def test_a_base_that_is_not_here_is_pulled_first(api: Any) -> None:
    body = {"model": "conformance-none", "from": NOBODY, "stream": False}
    error = 'pull model manifest: Get "https://127.0.0.1:1/<any>connection refused'
    api.check_error(api.post("/api/create", body), 500, error)


def test_a_pull_that_fails_says_so_with_a_status_or_in_the_stream(api: Any) -> None:
    error = 'pull model manifest: Get "https://127.0.0.1:1/<any>connection refused'
    api.check_error(api.post("/api/pull", {"model": NOBODY, "stream": False}), 500, error)
    first, last = api.post("/api/pull", {"model": NOBODY}).text.splitlines()
    assert first == '{"status":"pulling manifest"}'
    assert last.startswith('{"error":"pull model manifest: Get \\"https://127.0.0.1:1/')


@pytest.mark.parametrize("path", ["/api/pull", "/api/push"])
def test_what_is_no_name_cannot_be_moved(api: Any, path: str) -> None:
    answer = api.post(path, {"model": "a b", "stream": False})
    if path == "/api/pull":
        api.check_error(answer, 400, "invalid model name")
    else:
        api.check_error(answer, 500, "unqualified name: a b")


def test_a_push_of_what_is_not_here_tells_which_file_is_missing(api: Any) -> None:
    lines = api.post("/api/push", {"model": NOBODY}).text.splitlines()
    assert lines[:2] == [
        '{"status":"retrieving manifest"}',
        '{"status":"couldn\'t retrieve manifest"}',
    ]
    assert "/127.0.0.1:1/conformance/none/latest: no such file or directory" in lines[2]


# --- copy and delete --------------------------------------------------------------------------


def test_a_copy_has_the_same_digest_and_goes_alone(api: Any, model: str) -> None:
    answer = api.post("/api/copy", {"source": model, "destination": "conformance-copy"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "0"
    assert "content-type" not in answer.headers
    digests = {entry["model"]: entry["digest"] for entry in listed(api)}
    assert digests["conformance-copy:latest"] == digests[f"{model}:latest"]

    answer = api.send("DELETE", "/api/delete", {"model": "conformance-copy"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert "conformance-copy:latest" not in {entry["model"] for entry in listed(api)}
    assert api.post("/api/show", {"model": model}).status_code == 200


def test_copying_a_model_to_itself_does_nothing(api: Any, model: str) -> None:
    before = listed(api)
    assert api.post("/api/copy", {"source": model, "destination": model}).status_code == 200
    assert listed(api) == before


# --- tags and show ----------------------------------------------------------------------------


def listed(api: Any) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = api.send("GET", "/api/tags").json()["models"]
    return models


def test_the_list_has_every_field_in_its_place(api: Any, model: str) -> None:
    text = api.send("GET", "/api/tags").text
    assert text.startswith('{"models":[{"name":')
    entry = next(entry for entry in listed(api) if entry["name"] == f"{model}:latest")
    api.check(
        json.dumps(entry, separators=(",", ":")),
        f'{{"name":"{model}:latest","model":"{model}:latest","modified_at":"<local>",'
        '"size":<count>,"digest":"<hex>","details":{"parent_model":"<text>","format":"gguf",'
        '"family":"llama","families":["llama"],"parameter_size":"91K","quantization_level":"F32",'
        '"context_length":256,"embedding_length":64},"capabilities":["completion"]}',
    )


def test_the_newest_model_is_listed_first(api: Any, make_model: Callable[..., str]) -> None:
    name = make_model("conformance-newest")
    seconds = [entry["modified_at"][:19] for entry in listed(api)]
    assert seconds == sorted(seconds, reverse=True)
    assert name in {entry["name"].partition(":")[0] for entry in listed(api)}


def test_a_model_is_shown_to_the_letter(api: Any, created: str) -> None:
    answer = api.post("/api/show", {"model": created})
    api.check(
        answer.text.partition(',"tensors":')[0],
        '{"license":"first\\nsecond","modelfile":"<text>","parameters":"<text>",'
        '"template":"{{ .Prompt }}!","system":"Be brief.","details":{"parent_model":"<text>",'
        '"format":"gguf","family":"llama","families":["llama"],"parameter_size":"91K",'
        '"quantization_level":"unknown"},"messages":[{"role":"user","content":"hi"},'
        '{"role":"assistant","content":"ho"}],"model_info":{"general.architecture":"llama",<any>}',
    )
    api.check(
        answer.text.partition('],"capabilities":')[2],
        '["completion"],"modified_at":"<local>"<any>}',
    )


@pytest.mark.ours
def test_a_model_tells_which_backend_runs_it_and_why(api: Any, model: str) -> None:
    shown = api.post("/api/show", {"model": model}).json()
    assert list(shown)[-1] == "backend"
    assert shown["backend"]["name"] == "llamacpp"
    assert shown["backend"]["why"]


@pytest.mark.ours
def test_a_backend_that_is_not_installed_is_named_wherever_it_is_asked_for(
    api: Any, model: str, make_model: Callable[..., str]
) -> None:
    lost = make_model("conformance-lost", parameters={"backend": "no-such"})
    error = "backend 'no-such' is not installed; installed: <any>llamacpp<any>"
    api.check(api.post("/api/show", {"model": lost}).json()["backend"]["error"], error)
    asked = {"model": model, "options": {"backend": "no-such"}}
    for body in ({"model": lost}, asked):
        chat = {**body, "messages": [{"role": "user", "content": "hi"}]}
        api.check_error(api.post("/api/chat", chat), 400, error)
        for fields in ({}, {"prompt": "hi"}):
            api.check_error(api.post("/api/generate", {**body, **fields}), 400, error)
        api.check_error(api.post("/api/embed", {**body, "input": "hi"}), 400, error)


def test_parameters_are_shown_in_gos_syntax(api: Any, created: str) -> None:
    shown = api.post("/api/show", {"model": created}).json()
    assert sorted(shown["parameters"].split("\n")) == [
        "num_ctx                        131072",
        'stop                           "one"',
        'stop                           "say \\"two\\""',
        "temperature                    0.5",
    ]


def test_the_modelfile_makes_the_model_again(api: Any, created: str, tiny_digest: str) -> None:
    text = api.post("/api/show", {"model": created}).json()["modelfile"]
    head, _, rest = text.partition("\n\n")
    assert head.split("\n") == [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {created}:latest",
    ]
    lines = rest.split("\n")
    assert lines[0].startswith("FROM /")
    assert lines[0].endswith(f"/blobs/{tiny_digest.replace(':', '-')}")
    assert lines[1:3] == ["TEMPLATE {{ .Prompt }}!", "SYSTEM Be brief."]
    assert sorted(lines[3:7]) == [
        "PARAMETER num_ctx 131072",
        "PARAMETER stop one",
        'PARAMETER stop say "two"',
        "PARAMETER temperature 0.5",
    ]
    assert lines[7:] == [
        "LICENSE first",
        "LICENSE second",
        "MESSAGE user hi",
        "MESSAGE assistant ho",
        "",
    ]


def test_show_takes_a_system_and_options_for_the_modelfile(api: Any, created: str) -> None:
    body = {"model": created, "system": "Shout.", "options": {"seed": 7, "temperature": 1}}
    shown = api.post("/api/show", body).json()
    assert shown["system"] == "Shout."
    assert "SYSTEM Shout.\n" in shown["modelfile"]
    assert "PARAMETER seed 7\n" in shown["modelfile"]
    assert "PARAMETER temperature 1\n" in shown["modelfile"]
    assert "seed" not in shown["parameters"]


def test_arrays_are_shown_only_when_asked_for(api: Any, model: str) -> None:
    short = api.post("/api/show", {"model": model}).json()["model_info"]
    full = api.post("/api/show", {"model": model, "verbose": True}).json()["model_info"]
    assert list(short) == sorted(short)
    assert short["tokenizer.ggml.tokens"] is None
    assert len(full["tokenizer.ggml.tokens"]) == full["llama.vocab_size"]
    assert "tokenizer.chat_template" not in full
    assert short["general.parameter_count"] == 90624


def test_numbers_of_32_bits_are_shown_by_their_shortest_digits(api: Any, model: str) -> None:
    text = api.post("/api/show", {"model": model}).text
    assert '"llama.attention.layer_norm_rms_epsilon":0.00001,' in text
    assert '"llama.rope.freq_base":10000,' in text


def test_tensors_are_listed_always(api: Any, model: str) -> None:
    tensors = api.post("/api/show", {"model": model}).json()["tensors"]
    assert tensors[0] == {"name": "token_embd.weight", "type": "F32", "shape": [64, 259]}


def test_copilot_is_told_the_name_that_it_asked_for(api: Any, model: str) -> None:
    body = {"model": model}
    answer = api.post("/api/show", body, **{"user-agent": "GitHubCopilotChat/0.31"})
    assert answer.json()["model_info"]["general.basename"] == model
    assert "general.basename" not in api.post("/api/show", body).json()["model_info"]


def test_the_client_of_an_upload_that_is_cut_leaves_nothing(api: Any, base_url: str) -> None:
    digest = f"sha256:{hashlib.sha256(b'never whole').hexdigest()}"

    def broken() -> Any:
        yield b"never "
        raise ConnectionAbortedError

    with httpx.Client(base_url=base_url) as client, pytest.raises(ConnectionAbortedError):
        client.post(f"/api/blobs/{digest}", content=broken())
    assert api.send("HEAD", f"/api/blobs/{digest}").status_code == 404
