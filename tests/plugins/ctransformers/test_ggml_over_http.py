"""Legacy GGML files from `create` to the last token, over HTTP; beside the same weights as GGUF."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MODELS = Path(__file__).parents[2] / "models"
GPT2 = MODELS / "gpt2byte-f16.ggml.bin"
GGUF = MODELS / "gpt2byte-f16.gguf"
OPTIONS = {"num_thread": 1, "temperature": 0, "num_predict": 50}
PROMPTS = ["one two", "Q: capital of Italy?", "Hello", "two three"]
COUNTED = " three four five six seven eight nine ten."
SAMPLER = '''"""A sampler that lets no token come twice."""

from corral_kernel.contracts import Sampler, SamplerOptions, SamplerType
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


class OnceOptions(SamplerOptions, frozen=True, kw_only=True):
    once: bool = False


class Once(Sampler):
    def __init__(self):
        self._said = []

    def apply(self, candidates):
        assert candidates.ids is None
        candidates.logits[self._said] = float("-inf")

    def accept(self, token_id):
        self._said.append(token_id)


class OnceType(SamplerType):
    name = "once"
    options = OnceOptions
    docs = "lets no token come twice"
    default_place = 5.0

    def enabled(self, options):
        return options.once

    def start(self, options, job):
        return Once()


@hookimpl
def corral_samplers():
    return [OnceType()]
'''


class Client:
    """Short ways to ask one server."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)

    def blob(self, data: bytes) -> str:
        import hashlib

        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.http.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        return digest

    def create(self, name: str, data: bytes, **more: Any) -> httpx.Response:
        body = {"model": name, "files": {"model.bin": self.blob(data)}, "stream": False, **more}
        return self.http.post("/api/create", json=body)

    def ask(self, model: str, prompt: str, **more: Any) -> httpx.Response:
        body = {
            "model": model,
            "prompt": prompt,
            "stream": False,
            **more,
            "options": {**OPTIONS, **more.get("options", {})},
        }
        return self.http.post("/api/generate", json=body)

    def answer(self, model: str, prompt: str, **more: Any) -> str:
        response = self.ask(model, prompt, **more)
        assert response.status_code == 200, response.text
        return str(response.json()["response"])


@pytest.fixture(scope="module")
def client(
    start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A server with the byte GPT-2 as legacy GGML, `old`, and as GGUF, `new`."""
    site = tmp_path_factory.mktemp("site")
    (site / "once.py").write_text(SAMPLER)
    info = site / "once-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: once\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[corral]\nonce = once\n")
    client = Client(start_server(PYTHONPATH=str(site)).url)
    created = client.create("old", GPT2.read_bytes(), parameters={"model_type": "gpt2"})
    assert created.status_code == 200, created.text
    created = client.create("new", GGUF.read_bytes())
    assert created.status_code == 200, created.text
    yield client
    client.http.close()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_legacy_file_answers_word_for_word_as_the_gguf(client: Client, prompt: str) -> None:
    old = client.ask("old", prompt, raw=True).json()
    new = client.ask("new", prompt, raw=True).json()
    assert old["response"] == new["response"] != ""
    for name in ("done_reason", "prompt_eval_count", "eval_count"):
        assert old[name] == new[name], name


def test_its_probabilities_are_those_of_the_gguf(client: Client) -> None:
    asked = {"raw": True, "logprobs": True, "top_logprobs": 3, "options": {"num_predict": 8}}
    old = client.ask("old", "one two", **asked).json()["logprobs"]
    new = client.ask("new", "one two", **asked).json()["logprobs"]
    assert len(old) == len(new) == 8
    for mine, theirs in zip(old, new, strict=True):
        assert mine["token"] == theirs["token"]
        assert mine["logprob"] == pytest.approx(theirs["logprob"], abs=0.05)


def test_without_a_template_a_prompt_stands_as_it_is(client: Client) -> None:
    assert client.answer("old", "one two") == COUNTED
    body = {
        "model": "old",
        "messages": [{"role": "user", "content": "one two"}],
        "stream": False,
        "options": OPTIONS,
    }
    assert client.http.post("/api/chat", json=body).json()["message"]["content"] == COUNTED


def test_an_answer_is_streamed_and_cancelled(client: Client) -> None:
    body = {"model": "old", "prompt": "one two", "options": OPTIONS}
    with client.http.stream("POST", "/api/generate", json=body) as response:
        lines = [json.loads(line) for line in response.iter_lines()]
    assert "".join(line["response"] for line in lines) == COUNTED
    assert len(lines) > 10
    body["options"] = {**OPTIONS, "num_predict": -1, "temperature": 2.0}
    with client.http.stream("POST", "/api/generate", json=body) as response:
        next(response.iter_lines())
    assert client.answer("old", "one two") == COUNTED


def test_stop_strings_end_it(client: Client) -> None:
    answer = client.ask("old", "one two", options={"stop": ["five"]}).json()
    assert answer["response"] == " three four "
    assert answer["done_reason"] == "stop"


def test_a_format_constrains_it(client: Client) -> None:
    pattern = {"type": "regex", "pattern": " [a-c]{3}[0-9]{2}!"}
    answer = client.answer("old", "one two", format=pattern)
    assert len(answer) == 7
    assert answer[0] == " "
    assert set(answer[1:4]) <= set("abc")
    assert answer[4:6].isdigit()
    schema = {"type": "object", "properties": {"n": {"enum": ["one", "two"]}}, "required": ["n"]}
    shaped = client.answer("old", "one two", format=schema, options={"num_predict": 60})
    assert json.loads(shaped)["n"] in ("one", "two")


def test_a_third_partys_python_sampler_chooses_on_it(client: Client) -> None:
    for model in ("old", "new"):
        answer = client.answer(model, "one two", options={"once": True, "num_predict": 20})
        assert len(set(answer)) == len(answer) > 4


def test_seeds_repeat_and_concurrent_requests_take_turns(client: Client) -> None:
    from concurrent.futures import ThreadPoolExecutor

    options = {"temperature": 1.5, "seed": 11, "num_predict": 20}
    alone = client.answer("old", "one two", options=options)
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda _: client.answer("old", "one two", options=options), range(6))
        )
    assert answers == [alone] * 6


def test_a_prompt_over_the_context_is_cut_or_refused_and_the_worker_lives(client: Client) -> None:
    long = "one two three four five six seven " * 20
    answer = client.ask("old", long, options={"num_predict": 10})
    assert answer.status_code == 200, answer.text
    assert answer.json()["prompt_eval_count"] <= 128
    endless = client.ask("old", "zzzz", options={"num_predict": 400, "temperature": 1.9})
    assert endless.status_code == 200
    refused = client.ask("old", long, truncate=False)
    assert refused.status_code == 400
    assert client.answer("old", "one two") == COUNTED


def test_show_and_ps_tell_of_it(client: Client) -> None:
    client.answer("old", "one two")
    shown = client.http.post("/api/show", json={"model": "old"}).json()
    assert shown["capabilities"] == ["completion"]
    assert shown["details"]["format"] == "ggml"
    running = {m["name"]: m for m in client.http.get("/api/ps").json()["models"]}
    assert running["old:latest"]["context_length"] == 128


def test_an_option_of_a_request_names_the_architecture_too(client: Client) -> None:
    assert client.create("unnamed", GPT2.read_bytes()).status_code == 200
    refused = client.ask("unnamed", "one two")
    assert refused.status_code == 500
    assert "those of gpt2 or gpt_bigcode" in refused.json()["error"]
    assert client.answer("unnamed", "one two", options={"model_type": "gpt2"}) == COUNTED
    wrong = client.ask("unnamed", "one two", options={"model_type": "mpt"})
    assert wrong.status_code == 500
    assert "no readable mpt file" in wrong.json()["error"]
    unknown = client.ask("unnamed", "one two", options={"model_type": "gpt5"})
    assert unknown.status_code == 400
    assert "it must be one of gpt2, gptj" in unknown.json()["error"]


def test_options_without_effect_are_told(client: Client) -> None:
    answer = client.ask("old", "one two", options={"num_gpu": 20, "num_ctx": 4000}).json()
    told = " ".join(answer["warnings"])
    assert 'option "num_gpu" is ignored: this backend runs on the CPU alone' in told
    assert "num_ctx" in told


def test_embeddings_are_refused(client: Client) -> None:
    response = client.http.post("/api/embed", json={"model": "old", "input": "a"})
    assert response.status_code >= 400
    assert "error" in response.json()


def test_a_damaged_file_is_an_error_with_its_reason_and_the_server_lives(client: Client) -> None:
    data = GPT2.read_bytes()
    for number, (damaged, words) in enumerate(
        [
            (data[:-1000], "are left"),
            (data[:8] + b"\xff\xff\xff\x7f" + data[12:], "n_ctx is 2147483647"),
            (data + b"more", "are left"),
        ]
    ):
        name = f"damaged{number}"
        created = client.create(name, damaged, parameters={"model_type": "gpt2"})
        assert created.status_code == 200, created.text
        response = client.ask(name, "one two")
        assert response.status_code == 500
        assert "this is no readable gpt2 file: " in response.json()["error"]
        assert words in response.json()["error"]
    assert client.answer("old", "one two") == COUNTED


def test_weights_that_are_no_numbers_end_the_request_and_not_the_server(client: Client) -> None:
    data = GPT2.read_bytes()
    nonsense = data[:2_000] + b"\xff\x7f" * 14_000 + data[30_000:]  # of the embedding alone
    created = client.create("nonsense", nonsense, parameters={"model_type": "gpt2"})
    assert created.status_code == 200, created.text
    response = client.ask("nonsense", "one two")
    assert "no readable" not in response.text
    assert response.status_code in (200, 500), response.text
    assert response.status_code == 200 or response.json()["error"]
    assert client.answer("old", "one two") == COUNTED


def test_a_modelfile_makes_it_for_the_command_line(client: Client, tmp_path: Path) -> None:
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {GPT2}\nPARAMETER model_type gpt2\nPARAMETER num_thread 1\n")
    environment = {**os.environ, "CORRAL_HOST": str(client.http.base_url)}
    program = [sys.executable, "-m", "corral_cli"]
    made = subprocess.run(
        [*program, "create", "bymodelfile", "-f", str(modelfile)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert client.answer("bymodelfile", "one two") == COUNTED


def test_a_killed_worker_is_replaced(client: Client, wait_gone: Callable[[int], None]) -> None:
    import psutil

    client.answer("old", "one two")
    (server,) = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.port == client.http.base_url.port
    }
    holding = [
        process
        for process in psutil.Process(server).children(recursive=True)
        if any("libctransformers" in mapped.path for mapped in process.memory_maps())
    ]
    assert holding
    for process in holding:
        os.kill(process.pid, signal.SIGKILL)
        wait_gone(process.pid)
    assert client.answer("old", "one two") == COUNTED


def test_the_server_itself_never_imports_the_library(client: Client) -> None:
    import psutil

    client.answer("old", "one two")
    (server,) = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.port == client.http.base_url.port
    }
    paths = {mapped.path for mapped in psutil.Process(server).memory_maps()}
    assert not any("ctransformers" in path for path in paths)
