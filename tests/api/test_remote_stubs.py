"""Models on other servers, over HTTP: made, shown, run, copied and deleted; what may not be asked.

The backend that asks for them here is the plugin `chatter` of the tests, which says its prompt.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral_kernel.scheduler.limits import MOST_LIGHT

TINY = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
Start = Callable[..., Any]
HOST = "https://models.example.org/v1"
ALLOWED = "models.example.org,localhost,192.168.0.0/16"
CANNOT = "this server cannot run this remote model: "


@pytest.fixture(scope="module")
def stubs(start_server: Start, text_plugin: Path) -> Any:
    return start_server(
        PYTHONPATH=str(text_plugin), CORRAL_PLUGINS="chatter,chat,samplers", CORRAL_REMOTES=ALLOWED
    )


@pytest.fixture(scope="module")
def client(stubs: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stubs.url, timeout=60) as client:
        yield client


def create(client: httpx.Client, name: str, **fields: Any) -> httpx.Response:
    given = {"from": "acme/big-model", "remote_host": HOST, **fields}
    body = {"model": name, "stream": False, **given}
    return client.post("/api/create", json=body)


def made(client: httpx.Client, name: str, **fields: Any) -> str:
    answer = create(client, name, **fields)
    assert answer.json() == {"status": "success"}, answer.text
    return name


def generate(client: httpx.Client, name: str, prompt: str, **fields: Any) -> Any:
    body = {"model": name, "prompt": prompt, "stream": False, **fields}
    return client.post("/api/generate", json=body)


def given(client: httpx.Client, name: str, **fields: Any) -> Any:
    """What the engine was asked."""
    answer = generate(client, name, "!request", **fields)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.json()["response"])


def error_of(answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"])


# ------------------------------------------------------------------------------------- the stub


def test_a_stub_is_a_manifest_without_layers_and_a_config_that_tells_where(
    client: httpx.Client, stubs: Any
) -> None:
    body = {
        "model": "bare",
        "from": "acme/big-model",
        "remote_host": "HTTPS://Models.example.org/v1/",
    }
    lines = client.post("/api/create", json=body).text.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["writing manifest", "success"]
    folder = stubs.home / "models"
    raw = (folder / "manifests/registry.ollama.ai/library/bare/latest").read_bytes()
    manifest = json.loads(raw)
    assert raw.endswith(b',"layers":null}\n')
    config = (folder / "blobs" / manifest["config"]["digest"].replace(":", "-")).read_bytes()
    assert json.loads(config) == {
        "model_format": "",
        "model_family": "",
        "model_families": None,
        "model_type": "",
        "file_type": "",
        "remote_host": HOST,
        "remote_model": "acme/big-model",
        "architecture": "amd64",
        "os": "linux",
    }
    assert hashlib.sha256(raw).hexdigest() == listed(client, "bare")["digest"]


def listed(client: httpx.Client, name: str) -> Any:
    models = client.get("/api/tags").json()["models"]
    return next((model for model in models if model["name"] == f"{name}:latest"), None)


def test_a_stub_is_listed_and_shown_with_its_server(client: httpx.Client) -> None:
    info = {
        "capabilities": ["completion", "embedding"],
        "model_family": "acme",
        "base_name": "Big",
        "context_length": 32768,
        "embedding_length": 1024,
        "parameter_size": "70B",
    }
    parameters = {"temperature": 0.5, "api_key": "env:ACME_KEY"}
    made(client, "shown", info=info, parameters=parameters, system="Be brief.", license="Ours")
    entry = listed(client, "shown")
    assert (entry["remote_model"], entry["remote_host"]) == ("acme/big-model", HOST)
    assert entry["capabilities"] == ["completion", "embedding"]
    assert (entry["details"]["context_length"], entry["details"]["parameter_size"]) == (
        32768,
        "70B",
    )
    shown = client.post("/api/show", json={"model": "shown"}).json()
    assert (shown["remote_model"], shown["remote_host"]) == ("acme/big-model", HOST)
    assert shown["model_info"] == {
        "acme.context_length": 32768,
        "acme.embedding_length": 1024,
        "general.architecture": "acme",
        "general.basename": "Big",
    }
    assert "template" not in shown
    assert shown["backend"]["name"] == "chatter"
    modelfile = shown["modelfile"].splitlines()
    assert f"FROM {HOST}#acme/big-model" in modelfile
    assert "PARAMETER api_key env:ACME_KEY" in modelfile
    assert not any(line.startswith("TEMPLATE") for line in modelfile)


def test_a_stub_can_be_copied_built_upon_and_deleted(client: httpx.Client) -> None:
    made(client, "first", system="I am first.", parameters={"temperature": 0.25})
    client.post("/api/copy", json={"source": "first", "destination": "second"}).raise_for_status()
    assert listed(client, "second")["digest"] == listed(client, "first")["digest"]
    body = {"model": "third", "from": "second", "parameters": {"top_p": 0.5}, "stream": False}
    assert client.post("/api/create", json=body).json() == {"status": "success"}
    client.request("DELETE", "/api/delete", json={"model": "first"}).raise_for_status()
    assert listed(client, "first") is None
    told = given(client, "third")
    assert (told["target"], told["sampling"]) == (
        "acme/big-model",
        {"temperature": 0.25, "top_p": 0.5},
    )
    assert told["messages"][0] == {"role": "system", "content": "I am first."}


def test_from_may_name_server_and_model_at_once(client: httpx.Client) -> None:
    made(
        client, "at-once", **{"from": "https://models.example.org/v1#acme/other", "remote_host": ""}
    )
    assert given(client, "at-once")["target"] == "acme/other"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"remote_host": "ftp://models.example.org"}, "bad remote: it begins neither with"),
        ({"remote_host": "https://me:pw@models.example.org"}, "bad remote: it holds a user"),
        ({"from": "a\nb"}, "invalid model name"),
        ({"from": "", "files": {}}, "'remote_host' is without 'from'"),
        ({"draft_files": {"d": "sha256:" + "0" * 64}}, "DRAFT cannot be used with remote models"),
        ({"adapters": {"a": "sha256:" + "0" * 64}}, "an adapter cannot be added to a model on"),
        ({"parameters": {"api_key": "sk-secret"}}, "parameter 'api_key' is to say where the key"),
        ({"remote_host": "https://example.org/v1"}, CANNOT + "example.org is not listed"),
        ({"remote_host": "http://127.0.0.1:8000"}, CANNOT + "127.0.0.1 is not listed"),
        ({"remote_host": "http://10.0.0.1/v1"}, CANNOT + "10.0.0.1 is not listed"),
    ],
)
def test_what_can_be_no_stub_is_refused(
    client: httpx.Client, fields: dict[str, Any], words: str
) -> None:
    error = error_of(create(client, "refused", **fields))
    assert error.startswith(words)
    assert "sk-secret" not in error
    assert listed(client, "refused") is None


# --------------------------------------------------------------------------------- its answers


def test_answers_tell_where_the_model_runs(client: httpx.Client) -> None:
    name = made(client, "answers")
    whole = generate(client, name, "some words").json()
    assert (whole["response"], whole["done_reason"]) == ("some words ", "stop")
    assert (whole["remote_model"], whole["remote_host"]) == ("acme/big-model", HOST)
    assert (whole["prompt_eval_count"], whole["eval_count"]) == (1, 2)
    assert "context" not in whole
    messages = [{"role": "user", "content": "more words"}]
    with client.stream("POST", "/api/chat", json={"model": name, "messages": messages}) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert "".join(line["message"]["content"] for line in lines) == "more words "
    assert {(line["remote_model"], line["remote_host"]) for line in lines} == {
        ("acme/big-model", HOST)
    }
    assert lines[-1]["done"]


def test_a_prompt_becomes_a_conversation_and_a_raw_one_stays_a_prompt(client: httpx.Client) -> None:
    name = made(
        client,
        "prompts",
        system="Be kind.",
        messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
    )
    told = given(client, name)
    assert [message["role"] for message in told["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert given(client, name, system="Be rude.")["messages"][0]["content"] == "Be rude."
    told = given(client, name, raw=True)
    assert (told["messages"], told["prompt"]) == (None, "!request")


def test_options_that_the_engine_obeys_are_handed_on_as_they_are_set(client: httpx.Client) -> None:
    name = made(client, "options", parameters={"temperature": 0.5, "seed": 3, "stop": ["§"]})
    told = given(client, name, options={"top_p": 0.25, "num_predict": 40})
    assert told["sampling"] == {"temperature": 0.5, "top_p": 0.25}
    assert (told["seed"], told["stop"], told["max_tokens"]) == (3, ["§"], 40)
    told = given(client, name, options={"temperature": 0, "seed": -1}, logprobs=True, format="json")
    assert (told["sampling"], told["seed"]) == ({"temperature": 0.0}, None)
    assert (told["logprobs"], told["format"]) == (0, '"json"')


@pytest.mark.parametrize(
    "options",
    [{"min_p": 0}, {"repeat_penalty": 1.0}, {"repeat_last_n": 64}, {"typical_p": 1}, {"top_k": 0}],
)
def test_an_option_that_changes_nothing_is_no_hindrance(
    client: httpx.Client, options: dict[str, Any]
) -> None:
    name = made(client, "neutral")
    answer = generate(client, name, "!request", options=options)
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.json()["response"])["sampling"] == {}
    assert "warnings" not in answer.json()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"options": {"min_p": 0.2, "top_k": 5}}, 'options "min_p", "top_k" cannot be obeyed'),
        ({"options": {"samplers": ["top_k"]}}, 'option "samplers" cannot be obeyed'),
        ({"options": {"min_p": {"min_p": 0.5}}}, 'option "min_p" cannot be obeyed'),
        ({"options": {"api_key": "env:OTHER"}}, 'option "api_key" is not for a request to set'),
        ({"format": {"type": "object"}}, "format 'schema' cannot be enforced"),
        ({"format": {"type": "regex", "pattern": "a"}}, "format 'regex' cannot be enforced"),
        ({"_debug_render_only": True}, "the prompt of stubborn:latest is not rendered here"),
        ({"suffix": "x"}, "registry.ollama.ai/library/stubborn:latest does not support insert"),
        ({"think": True}, '"stubborn" does not support thinking'),
    ],
)
def test_what_the_engine_does_not_obey_is_refused_before_anything_is_loaded(
    client: httpx.Client, fields: dict[str, Any], words: str
) -> None:
    name = made(client, "stubborn", remote_host="https://models.example.org:9999/never-asked")
    assert error_of(generate(client, name, "hello", **fields)).startswith(words)
    assert name not in running(client)


def running(client: httpx.Client) -> dict[str, Any]:
    models = client.get("/api/ps").json()["models"]
    return {model["name"].removesuffix(":latest"): model for model in models}


def test_what_means_nothing_there_is_told(client: httpx.Client) -> None:
    name = made(client, "told")
    options = {"num_ctx": 2048, "num_gpu": 1, "num_keep": 5}
    answer = generate(client, name, "hi", options=options, context=[1, 2], shift=False).json()
    told = " | ".join(answer["warnings"])
    for option in ("num_ctx", "num_gpu", "num_keep"):
        assert f'option "{option}" is ignored: ' in told
    assert '"context" is ignored: ' in told
    assert '"shift" is ignored: ' in told
    assert "loaded anew" not in told


def test_failures_keep_their_kind(client: httpx.Client) -> None:
    name = made(client, "failures")
    assert error_of(generate(client, name, "!refuse")) == "that server does not like it"
    words = "an error was encountered while running the model: RuntimeError: "
    assert error_of(generate(client, name, "!raise"), 500).startswith(words)
    with client.stream("POST", "/api/generate", json={"model": name, "prompt": "a !refuse"}) as got:
        lines = [json.loads(line) for line in got.iter_lines()]
    assert (lines[0]["response"], lines[-1]) == ("a ", {"error": "that server does not like it"})


def test_vectors_of_a_stub(client: httpx.Client) -> None:
    name = made(client, "vectors", info={"capabilities": ["embedding"]})
    body = {"model": name, "input": ["a", "four"]}
    answer = client.post("/api/embed", json=body).json()
    assert len(answer["embeddings"]) == 2
    assert sum(value**2 for value in answer["embeddings"][1]) == pytest.approx(1, abs=1e-6)
    answer = client.post("/api/embeddings", json={"model": name, "prompt": "four"}).json()
    assert answer["embedding"] == [4, len("acme/big-model"), 0, 0]
    assert error_of(generate(client, name, "hi")) == '"vectors" does not support generate'


def test_names_of_one_server_share_a_worker_and_each_is_listed(client: httpx.Client) -> None:
    host = "https://models.example.org:8443/shared"
    for name in ("one", "two"):
        made(client, name, remote_host=host, **{"from": f"acme/{name}"})
    made(client, "three", remote_host=host, parameters={"api_key": "env:THREE"})
    assert given(client, "one", options={"num_ctx": 512})["target"] == "acme/one"
    assert given(client, "two", options={"num_ctx": 1024})["target"] == "acme/two"
    counts = json.loads(generate(client, "two", "!counts").json()["response"])
    assert counts["opened"] == 3, "the same engine"
    other = json.loads(generate(client, "three", "!counts").json()["response"])
    assert other["opened"] == 1, "one of its own: it has another key"
    loaded = running(client)
    assert {"one", "two", "three"} <= loaded.keys()
    assert (loaded["two"]["size"], loaded["two"]["size_vram"]) == (0, 0)
    assert loaded["one"]["expires_at"] == loaded["two"]["expires_at"]


def test_the_engine_has_what_the_claim_told_the_key_and_the_allowed_hosts(
    client: httpx.Client,
) -> None:
    name = made(client, "loaded", parameters={"api_key": "file:/run/secrets/acme"})
    told = json.loads(generate(client, name, "!load").json()["response"])
    assert told == {
        "private": {"base_url": HOST},
        "api_key": "file:/run/secrets/acme",
        "allowed": True,
    }


def test_a_stub_is_loaded_and_unloaded_like_any_model(client: httpx.Client) -> None:
    host = "https://models.example.org:8444"
    name = made(client, "comes-and-goes", remote_host=host)
    loaded = client.post("/api/generate", json={"model": name}).json()
    assert (loaded["done_reason"], loaded["remote_host"]) == ("load", host)
    assert name in running(client)
    gone = client.post("/api/generate", json={"model": name, "keep_alive": 0}).json()
    assert gone["done_reason"] == "unload"


def test_stubs_count_as_no_loaded_models_and_put_none_out(
    start_server: Start, text_plugin: Path
) -> None:
    server = start_server(
        PYTHONPATH=str(text_plugin),
        CORRAL_PLUGINS="chatter,chat,echo",
        CORRAL_REMOTES=ALLOWED,
        CORRAL_MAX_LOADED_MODELS="1",
        CORRAL_NUM_PARALLEL="1",
    )
    with httpx.Client(base_url=server.url, timeout=60) as client:
        body = {"model": "here", "files": {TINY.name: put(client, TINY)}, "stream": False}
        body["parameters"] = {"backend": "echo"}
        client.post("/api/create", json=body).raise_for_status()
        assert generate(client, "here", "abc", raw=True).json()["response"] == "abc"
        for number in range(MOST_LIGHT + 1):
            host = f"https://models.example.org:{7000 + number}"
            made(client, f"stub{number}", remote_host=host)
            assert generate(client, f"stub{number}", "hi").json()["response"] == "hi "
        loaded = running(client)
        assert "here" in loaded
        assert len(loaded) == MOST_LIGHT + 1, "workers without a model have a bound of their own"
        assert "stub0" not in loaded, "the one that was used least recently went"


def put(client: httpx.Client, path: Path) -> str:
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=path.read_bytes()).raise_for_status()
    return digest


async def test_two_hundred_requests_reach_one_server_at_once(
    client: httpx.Client, stubs: Any
) -> None:
    name = made(client, "many", remote_host="https://models.example.org:8445")
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=stubs.url, timeout=60, limits=limits) as many:
        waiting = []
        for number in range(200):
            body = {"model": name, "prompt": f"{number} " + "says this " * 9, "stream": False}
            waiting.append(many.post("/api/generate", json=body))
        answers = await asyncio.gather(*waiting)
    texts = [answer.json()["response"] for answer in answers]
    assert all(text.startswith(f"{n} says this ") for n, text in enumerate(texts))
    counts = json.loads(generate(client, name, "!counts").json()["response"])
    assert (counts["opened"], counts["closed"]) == (201, 200)
    assert counts["most"] > 4, "more than a model in memory is given at once"


def test_a_client_that_leaves_cancels_the_request_at_its_engine(client: httpx.Client) -> None:
    name = made(client, "left", remote_host="https://models.example.org:8446")
    body = {"model": name, "prompt": "soon !hang"}
    with client.stream("POST", "/api/generate", json=body) as answer:
        assert json.loads(next(answer.iter_lines()))["response"] == "soon "
    for _ in range(1000):  # the server hears of it in its own time
        counts = json.loads(generate(client, name, "!counts").json()["response"])
        if counts["cancelled"]:
            break
    assert counts["cancelled"] == 1


def test_a_key_that_got_into_a_model_by_another_way_is_neither_used_nor_shown(
    client: httpx.Client, stubs: Any
) -> None:
    made(client, "keyed", parameters={"api_key": "env:ACME_KEY"})
    folder = stubs.home / "models"
    manifest = folder / "manifests/registry.ollama.ai/library/keyed/latest"
    found = json.loads(manifest.read_bytes())
    data = b'{"api_key":"sk-secret"}\n'
    digest = hashlib.sha256(data).hexdigest()
    (folder / "blobs" / f"sha256-{digest}").write_bytes(data)
    found["layers"][0] |= {"digest": f"sha256:{digest}", "size": len(data)}
    manifest.write_text(json.dumps(found))
    error = error_of(generate(client, "keyed", "hi"), 500)
    assert error.startswith("PARAMETER api_key of keyed:latest is neither env:NAME nor file:PATH")
    shown = client.post("/api/show", json={"model": "keyed"})
    assert shown.status_code == 200
    assert "(not shown)" in shown.json()["parameters"]
    assert "sk-secret" not in error + shown.text + "".join(stubs.log)


# ----------------------------------------------------------------------------- who may be asked


def test_a_server_is_asked_no_more_once_it_is_not_listed(
    start_server: Start, text_plugin: Path
) -> None:
    settings = {"PYTHONPATH": str(text_plugin), "CORRAL_PLUGINS": "chatter,chat"}
    first = start_server(**settings, CORRAL_REMOTES=ALLOWED)
    models = str(first.home / "models")
    with httpx.Client(base_url=first.url, timeout=60) as client:
        made(client, "stub")
        made(client, "old", remote_host="https://models.example.org:443")
    second = start_server(**settings, CORRAL_MODELS=models, OLLAMA_REMOTES="other.example.org")
    with httpx.Client(base_url=second.url, timeout=60) as client:
        words = CANNOT + "models.example.org is not listed in CORRAL_REMOTES"
        assert error_of(generate(client, "stub", "hi")) == words
        assert error_of(client.post("/api/generate", json={"model": "stub"})) == words
        body = {"model": "stub", "input": "hi"}
        assert error_of(client.post("/api/embed", json=body)) == words
        assert client.post("/api/show", json={"model": "stub"}).status_code == 200
        again = {"model": "again", "from": "stub", "stream": False}
        assert error_of(client.post("/api/create", json=again)) == words
        assert running(client) == {}


def test_what_no_backend_asks_for_us_is_told_in_the_words_of_a_cloud_that_is_off(
    start_server: Start,
) -> None:
    server = start_server(CORRAL_PLUGINS="chat", CORRAL_REMOTES=ALLOWED)
    words = "ollama cloud is disabled: remote model "
    with httpx.Client(base_url=server.url, timeout=60) as client:
        made(client, "stub")
        assert error_of(generate(client, "stub", "hi"), 403) == words + "is unavailable"
        shown = client.post("/api/show", json={"model": "stub"})
        assert error_of(shown, 403) == words + "details are unavailable"
        local = client.post("/api/show", json={"model": "stub:local"})
        assert error_of(local, 404) == "model 'stub:latest' not found"
        assert listed(client, "stub")["remote_host"] == HOST


def test_without_a_cloud_its_models_are_out_of_reach_and_others_are_not(
    start_server: Start, text_plugin: Path
) -> None:
    settings = {"PYTHONPATH": str(text_plugin), "CORRAL_PLUGINS": "chatter,chat"}
    remotes = "ollama.com,models.example.org"
    first = start_server(**settings, CORRAL_REMOTES=remotes)
    with httpx.Client(base_url=first.url, timeout=60) as client:
        made(client, "cloudy", remote_host="https://ollama.com:443")
        made(client, "near")
        assert generate(client, "cloudy", "hi").status_code == 200
    models = str(first.home / "models")
    second = start_server(
        **settings, CORRAL_MODELS=models, CORRAL_REMOTES=remotes, OLLAMA_NO_CLOUD="1"
    )
    with httpx.Client(base_url=second.url, timeout=60) as client:
        words = "ollama cloud is disabled: remote model is unavailable"
        assert error_of(generate(client, "cloudy", "hi"), 403) == words
        assert generate(client, "near", "hi").json()["response"] == "hi "
        answer = create(client, "more", remote_host="https://ollama.com")
        assert error_of(answer).startswith(CANNOT)
