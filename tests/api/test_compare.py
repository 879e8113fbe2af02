"""`/api/compare` on a real server: numbers, errors, and what is left of one that ends early."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

MODELS = Path(__file__).parents[1] / "models"
TINY, GPT2 = MODELS / "tiny-chat-f32.gguf", MODELS / "gpt2byte-f16.gguf"
SETTINGS = {"CORRAL_PLUGINS": "chat,echo,llamacpp,repeat", "CORRAL_MEMORY_BUDGET": "4GiB"}
PROMPTS = ["<|im_start|>user\ncapital of France?<|im_end|>\n<|im_start|>assistant\n", "Once"]
WEIGHTS_BYTES = 256_000
"""The end of the small chat model's file; there is nothing but float32 numbers in it."""
LIMIT_S = 60.0

Start = Callable[..., Any]


def coarse(data: bytes) -> bytes:
    """The same model with most of its weights rounded: a quantization of sorts."""
    head, tail = data[:-WEIGHTS_BYTES], np.frombuffer(data[-WEIGHTS_BYTES:], "<f4")
    return head + (np.round(tail * 8) / 8).astype("<f4").tobytes()


class Comparer:
    """A server with some models, and ways to have them compared."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=60)
        self.create("tiny", files={"m.gguf": self.blob(TINY)})
        self.create("coarse", files={"m.gguf": self.blob(coarse(TINY.read_bytes()))})
        self.create("gpt2", files={"m.gguf": self.blob(GPT2)})

    def blob(self, given: Path | bytes) -> str:
        data = given if isinstance(given, bytes) else given.read_bytes()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        return digest

    def create(self, name: str, **fields: Any) -> None:
        body = {"model": name, "stream": False, **fields}
        self.client.post("/api/create", json=body).raise_for_status()

    @staticmethod
    def body(a: str, b: str, **fields: Any) -> dict[str, Any]:
        options = {"num_thread": 1, **fields.pop("options", {})}
        given = {"model_a": a, "model_b": b, "prompts": PROMPTS, "max_tokens": 8, **fields}
        return {**given, "options": options}

    def ask(self, a: str, b: str, **fields: Any) -> httpx.Response:
        body = self.body(a, b, **fields)
        return self.client.post("/api/compare", json={**body, "stream": False})

    def result(self, a: str, b: str, **fields: Any) -> dict[str, Any]:
        answer = self.ask(a, b, **fields)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    @contextlib.contextmanager
    def lines(self, a: str, b: str, **fields: Any) -> Iterator[Iterator[Any]]:
        body = self.body(a, b, **fields)
        with self.client.stream("POST", "/api/compare", json=body) as answer:
            assert answer.status_code == 200
            yield (json.loads(line) for line in answer.iter_lines())

    def loaded(self) -> list[str]:
        return [entry["name"] for entry in self.client.get("/api/ps").json()["models"]]

    def workers(self) -> set[int]:
        """Processes of the server that have a model, or wait for one."""
        children = psutil.Process(self.server.process.pid).children(recursive=True)
        return {child.pid for child in children}


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def comparer(start_server: Start) -> Iterator[Comparer]:
    comparer = Comparer(start_server(**SETTINGS))
    with contextlib.closing(comparer.client):
        yield comparer


# ------------------------------------------------------------------------------- what it gives


def test_a_model_does_not_differ_from_itself(comparer: Comparer) -> None:
    result = comparer.result("tiny", "tiny")
    assert result["status"] == "success"
    assert (result["kl_mean"], result["kl_max"], result["agreement"]) == (0.0, 0.0, 1.0)
    assert (result["equal"], result["kl_reason"]) == (2, "")
    first, second = result["prompts"]
    assert first["prompt"] == PROMPTS[0]
    assert first["a"] == first["b"] == "Paris."
    assert first["first_difference"] is None
    assert first["same_prompt"] is True
    assert first["kl"] == [0.0] * first["tokens"]
    assert len(second["kl"]) == second["tokens"] <= 8
    for side in (result["a"], result["b"]):
        assert (side["model"], side["backend"]) == ("tiny:latest", "llamacpp")
        assert side["quantization"] == "F32"
        assert side["memory"] > TINY.stat().st_size
        assert side["load_duration"] > 0
        assert side["tokens"] == first["tokens"] + second["tokens"]
        assert side["tokens_per_second"] > 0


def test_other_weights_of_one_vocabulary_are_apart_and_the_first_token_is_found(
    comparer: Comparer,
) -> None:
    body = {"prompt": PROMPTS[0], "raw": True, "stream": False, "keep_alive": 0}
    options = {"temperature": 0, "num_predict": 8, "num_thread": 1}
    told = [
        comparer.client.post("/api/generate", json={"model": m, **body, "options": options}).json()
        for m in ("tiny", "coarse")
    ]
    result = comparer.result("tiny", "coarse")
    assert 0 < result["kl_mean"] < result["kl_max"]
    assert 0 <= result["agreement"] < 1
    first = result["prompts"][0]
    assert [first["a"], first["b"]] == [answer["response"] for answer in told]
    parted = first["first_difference"]
    assert parted["a"] != parted["b"]
    shared = first["a"][: parted["character"]]
    assert shared == first["b"][: parted["character"]]
    assert first["a"] != first["b"]
    assert min(first["kl"]) >= 0
    assert first["kl_mean"] == pytest.approx(sum(first["kl"]) / len(first["kl"]))
    reverse = comparer.result("coarse", "tiny")["prompts"][0]
    assert (reverse["a"], reverse["b"]) == (first["b"], first["a"])
    assert reverse["first_difference"]["a"] == parted["b"]


def test_two_backends_of_one_vocabulary_are_compared_by_logits(comparer: Comparer) -> None:
    sides = {"options_a": {"backend": "repeat"}, "options_b": {"backend": "echo"}}
    result = comparer.result("tiny", "tiny", **sides)
    assert [result["a"]["backend"], result["b"]["backend"]] == ["repeat", "echo"]
    assert (result["kl_max"], result["agreement"], result["equal"]) == (0.0, 1.0, 2)
    assert result["prompts"][0]["a"] == PROMPTS[0][:8]


def test_two_vocabularies_are_compared_by_text_and_the_reason_told(comparer: Comparer) -> None:
    result = comparer.result("tiny", "gpt2")
    assert result["kl_reason"] == "the models have different vocabularies"
    assert (result["kl_mean"], result["kl_max"], result["agreement"]) == (None, None, None)
    assert all(each["kl"] == [] and each["same_prompt"] is None for each in result["prompts"])
    assert result["a"]["tokens_per_second"] > 0 < result["b"]["tokens_per_second"]


def test_steps_are_told_as_they_come_and_the_result_last(comparer: Comparer) -> None:
    with comparer.lines("tiny", "gpt2") as lines:
        *steps, result = lines
    sides = (("a", "tiny:latest"), ("b", "gpt2:latest"))
    assert [(s["status"], s["side"], s["model"], s["completed"], s["total"]) for s in steps] == [
        step
        for side, model in sides
        for step in (
            ("loading", side, model, 0, 0),
            ("answering", side, model, 0, 2),
            ("answering", side, model, 1, 2),
        )
    ]
    assert result["status"] == "success"
    assert len(result["prompts"]) == 2


def test_without_prompts_eight_short_ones_are_taken(comparer: Comparer) -> None:
    result = comparer.result("gpt2", "gpt2", prompts=None, max_tokens=None)
    assert len(result["prompts"]) == 8
    assert all(0 < each["tokens"] <= 64 for each in result["prompts"])


def test_a_context_can_be_given_and_a_full_one_ends_an_answer(comparer: Comparer) -> None:
    result = comparer.result("tiny", "tiny", options={"num_ctx": 32}, prompts=["Once" * 4])
    assert result["a"]["context_length"] == result["b"]["context_length"] == 32
    long = comparer.result(
        "tiny", "tiny", options={"num_ctx": 32, "seed": 3}, prompts=["a" * 28], max_tokens=20
    )
    assert 0 < long["a"]["tokens"] <= 20
    assert long["kl_max"] == 0.0


def test_nothing_of_it_stays_loaded_and_what_was_loaded_goes_on(comparer: Comparer) -> None:
    body = {"model": "gpt2", "prompt": "x", "raw": True, "stream": False, "keep_alive": -1}
    comparer.client.post("/api/generate", json=body).raise_for_status()
    comparer.result("tiny", "tiny")
    until(lambda: comparer.loaded() == ["gpt2:latest"])
    again = comparer.client.post("/api/generate", json=body).json()
    assert again["load_duration"] < 1e9
    comparer.client.post("/api/generate", json={"model": "gpt2", "keep_alive": 0})
    until(lambda: comparer.loaded() == [])


def test_it_keeps_to_the_memory_budget(comparer: Comparer) -> None:
    for name, gigabytes in (("idle", 3), ("half", 2), ("huge", 5)):
        echoes = {"backend": "echo", "echo_memory_bytes": gigabytes << 30}
        data = TINY.read_bytes() + name.encode()
        comparer.create(name, files={"m.gguf": comparer.blob(data)}, parameters=echoes)
    comparer.client.post("/api/generate", json={"model": "idle"}).raise_for_status()
    assert comparer.loaded() == ["idle:latest"]
    result = comparer.result("half", "half")
    assert [result["a"]["memory"], result["b"]["memory"]] == [2 << 30, 2 << 30]
    until(lambda: comparer.loaded() == [])
    answer = comparer.ask("half", "huge")
    assert answer.status_code == 500
    assert "(5.0 GiB) than is available (4.0 GiB)" in answer.json()["error"]


SPEAKER = """
from corral_kernel.contracts import Backend, Claim, EngineInfo, Ending, Piece, TextEngine
from corral_kernel.plugins import hookimpl
CORRAL_API_VERSION = 1

@hookimpl
def corral_backends():
    return [Backend(name="speaker")]

@hookimpl
def corral_claim(model):
    return Claim(backend="speaker", confidence=0.001, why="says the same to all", takes="text",
                 capabilities=("completion",))

@hookimpl
def corral_load(request):
    return Speaker()

class Speaker(TextEngine):
    takes = "text"
    sampling = frozenset({"temperature"})
    info = EngineInfo(capabilities=("completion",), context_tokens=4096)

    async def generate(self, request):
        assert request.max_tokens == 8 and request.seed == 5, request
        assert request.sampling == {"temperature": 0.0}, request
        yield Piece(content=request.prompt[-1] + "Par")
        yield Piece(content="is!")
        yield Ending(output_tokens=3)
"""


def test_an_engine_that_gives_only_text_is_compared_by_its_text(
    start_server: Start, tmp_path: Path
) -> None:
    (tmp_path / "speaker_plugin.py").write_text(SPEAKER)
    info = tmp_path / "speaker-1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[corral]\nspeaker = speaker_plugin\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: speaker\nVersion: 1\n")
    plugins = {**SETTINGS, "CORRAL_PLUGINS": "llamacpp,chat,speaker", "PYTHONPATH": str(tmp_path)}
    own = Comparer(start_server(**plugins))
    with contextlib.closing(own.client):
        speaker = {"backend": "speaker", "seed": 5}
        fields: dict[str, Any] = {"prompts": [PROMPTS[0]], "options": {}}
        result = own.result("tiny", "tiny", options_b=speaker, **fields)
        assert result["kl_reason"] == "the second model's engine gives no logits"
        (first,) = result["prompts"]
        assert (first["a"], first["b"]) == ("Paris.", "\nParis!")
        parted = {"token": 0, "character": 0, "a": "Paris.", "b": "\nParis!"}
        assert first["first_difference"] == parted
        assert result["b"]["tokens"] == 3
        result = own.result("tiny", "tiny", options_a=speaker, **fields)
        assert result["kl_reason"] == "the first model's engine gives no logits"
        assert result["prompts"][0]["first_difference"]["token"] is None


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model_b": "nope"}, 404, "model 'nope' not found"),
        ({"model_a": "nope"}, 404, "model 'nope' not found"),
        ({"model_a": ""}, 400, "model is required"),
        ({"prompts": []}, 400, "0 prompts: compare takes from 1 to 256"),
        ({"max_tokens": 0}, 400, "max_tokens is 0; it must be from 1 to 1024"),
        ({"options": {"backend": "ghost"}}, 400, "backend 'ghost' is not installed; installed: "),
        ({"options_b": {"top_k": 3}}, 400, 'option "top_k" means nothing here'),
        ({"options_a": {"num_ctx": "many"}}, 500, 'option "num_ctx" must be of type integer'),
        ({"prompts": ["y" * 3000]}, 400, "the prompt is longer than the context length"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_what_cannot_be_compared_is_told_with_a_status(
    comparer: Comparer, fields: dict[str, Any], status: int, words: str
) -> None:
    answer = comparer.ask("tiny", "tiny", **fields)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(words)
    until(lambda: comparer.loaded() == [])


def test_a_model_that_makes_vectors_is_refused(comparer: Comparer, minilm_file: Path) -> None:
    comparer.create("minilm", files={"m.gguf": comparer.blob(minilm_file)})
    answer = comparer.ask("tiny", "minilm")
    assert answer.status_code == 400
    assert answer.json() == {"error": "minilm:latest does not support completion"}


def test_a_second_model_that_cannot_be_loaded_ends_the_stream_with_its_reason(
    comparer: Comparer,
) -> None:
    failing = {"backend": "echo", "echo_load_fails": True}
    with comparer.lines("tiny", "tiny", options_b=failing) as lines:
        *steps, last = lines
    assert steps[-1]["side"] == "b"
    assert last["error"].startswith("echo was told to fail: unset echo_load_fails (backend 'echo'")
    assert comparer.result("tiny", "tiny")["kl_max"] == 0.0


def test_an_engine_that_dies_costs_its_comparison_alone(comparer: Comparer) -> None:
    dying = {"backend": "echo", "echo_die_at": 3}
    answer = comparer.ask("tiny", "tiny", options_a=dying)
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("model runner has unexpectedly stopped")
    assert comparer.result("tiny", "tiny")["kl_max"] == 0.0


# ----------------------------------------------------------------------------- an early end


SLOW: dict[str, Any] = {
    "options_a": {"backend": "echo", "echo_step_ms": 50},
    "max_tokens": 1000,
    "prompts": ["x" * 999],
}
"""A comparison whose first model takes a minute."""


def test_a_client_that_leaves_takes_the_workers_along(comparer: Comparer) -> None:
    until(lambda: comparer.loaded() == [])
    with comparer.lines("tiny", "tiny", **SLOW) as lines:
        while next(lines)["status"] != "answering":
            pass
        assert comparer.loaded() == ["tiny:latest"]
    until(lambda: comparer.loaded() == [])
    until(lambda: len(comparer.workers()) <= 1)  # the spare one
    assert comparer.result("tiny", "tiny")["kl_max"] == 0.0


def test_two_comparisons_of_one_model_do_not_wait_for_each_other(comparer: Comparer) -> None:
    with comparer.lines("tiny", "tiny", **SLOW) as lines:
        while next(lines)["status"] != "answering":
            pass
        quick = {**SLOW, "max_tokens": 4, "prompts": ["xxxxxxxx"]}
        assert comparer.result("tiny", "tiny", **quick)["a"]["tokens"] == 4
    until(lambda: comparer.loaded() == [])


def test_a_client_that_leaves_without_having_heard_anything_does_so_too(comparer: Comparer) -> None:
    until(lambda: comparer.loaded() == [])
    url = httpx.URL(comparer.server.url)
    body = json.dumps(comparer.body("tiny", "tiny", **SLOW) | {"stream": False}).encode()
    head = f"POST /api/compare HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: comparer.loaded() == ["tiny:latest"])
    until(lambda: comparer.loaded() == [])
    until(lambda: len(comparer.workers()) <= 1)


def test_a_client_that_leaves_while_a_model_loads_leaves_nothing_behind(comparer: Comparer) -> None:
    until(lambda: comparer.loaded() == [])
    loading = {"backend": "echo", "echo_load_ms": 60_000}
    with comparer.lines("tiny", "tiny", options_a=loading) as lines:
        assert next(lines)["status"] == "loading"
        until(lambda: len(comparer.workers()) == 2)  # it, and the next spare one
    until(lambda: len(comparer.workers()) <= 1)
    assert comparer.result("tiny", "tiny")["kl_max"] == 0.0


def test_a_killed_server_leaves_no_process_of_a_comparison(
    start_server: Start, wait_gone: Callable[[int], None]
) -> None:
    own = Comparer(start_server(**SETTINGS))
    with contextlib.closing(own.client), own.lines("tiny", "tiny", **SLOW) as lines:
        while next(lines)["status"] != "answering":
            pass
        workers = own.workers()
        assert workers
        os.kill(own.server.process.pid, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            list(lines)
    for pid in workers:
        wait_gone(pid)
