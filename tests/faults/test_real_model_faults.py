"""Faults that meet a real model at work: in prefill, in decode, while it is loaded."""

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.real
MODEL = "smollm2"
OPTIONS = {"num_thread": 1, "num_ctx": 4096, "temperature": 0, "num_batch": 64}
LONG = " ".join(f"Line {number} tells of the {number}th mill." for number in range(50))
WORKING_S = 0.2
"""Of processor time: then a step has begun."""
PATIENCE_S = 90.0
"""With answers of a real model on a machine where others work too."""


@pytest.fixture
def served(serve: Callable[..., Any], smollm2: Path) -> Any:
    """A server for each test: a model whose workers die thrice in a minute would rest."""
    started = serve(
        PLUGINS="llamacpp,chat,packages,echo",
        NUM_PARALLEL="2",
        STEP_TIMEOUT="8s",
        STALL_TIMEOUT="1s",
    )
    started.client.timeout = PATIENCE_S
    return started


def ask(served: Any, prompt: str = "Name a color.", **more: Any) -> str:
    fields = {"options": {**OPTIONS, "num_predict": 6}, **more}
    answer = served.ask(MODEL, prompt, **fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["response"])


def worker_of_model(served: Any) -> psutil.Process:
    """The largest of the server's processes: it holds the weights."""
    workers = [psutil.Process(pid) for pid in served.workers()]
    return max(workers, key=lambda worker: worker.memory_info().rss)


@contextlib.contextmanager
def in_prefill(served: Any, tools: Any, **more: Any) -> Iterator[tuple[psutil.Process, Any]]:
    """A worker that is being fed a long prompt, and the connection of whoever sent it."""
    ask(served)
    worker = worker_of_model(served)
    before_s = worker.cpu_times().user
    options = {**OPTIONS, "num_predict": 2}
    with served.connect(MODEL, LONG, options=options, **more) as connection:
        tools.until(lambda: worker.cpu_times().user > before_s + WORKING_S)
        assert not select.select([connection], [], [], 0)[0], "it answers already"
        connection.settimeout(PATIENCE_S)
        yield worker, connection


def whole_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body."""
    head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_worker_killed_in_prefill_is_replaced_and_the_request_answered(
    served: Any, tools: Any, *, stream: bool
) -> None:
    with in_prefill(served, tools, stream=stream) as (worker, connection):
        worker.kill()
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert worker.pid not in served.workers()


def test_a_worker_killed_in_decode_costs_its_clients_one_line_and_nobody_else(
    served: Any,
) -> None:
    served.create("other", echo_step_ms=20)
    options = {**OPTIONS, "num_predict": 400}
    text = "abcdefghij" * 8
    with (
        served.stream(MODEL, "Once upon a time", options=options) as stories,
        served.stream("other", text) as echoes,
    ):
        assert next(stories)["response"]
        assert next(echoes)["response"] == "a"
        worker_of_model(served).kill()
        lines = list(stories)
        assert "model runner has unexpectedly stopped" in lines[-1]["error"]
        assert all("error" not in line for line in lines[:-1])
        assert "a" + "".join(line["response"] for line in echoes) == text
    assert ask(served)


def test_a_stopped_worker_is_given_up_and_the_next_request_works(served: Any, tools: Any) -> None:
    options = {**OPTIONS, "num_predict": 400}
    with served.stream(MODEL, "Once upon a time", options=options) as stories:
        assert next(stories)["response"]
        worker = worker_of_model(served)
        worker.send_signal(signal.SIGSTOP)
        last = list(stories)[-1]
    assert "was silent for 8 s with requests open" in last["error"]
    tools.wait_gone(worker.pid)
    assert ask(served)


def test_a_reader_that_stalls_does_not_hold_up_who_shares_its_worker(served: Any) -> None:
    """Long lines fill all buffers on the way; two slots, of which its own is free at last."""
    ask(served)
    fields = {"logprobs": True, "top_logprobs": 20, "options": {**OPTIONS, "num_predict": 3000}}
    with served.connect(MODEL, "Count: 1 2 3 4 5 6 7", **fields) as reader:
        assert reader.recv(12) == b"HTTP/1.1 200"
        expected = ask(served)
        for _ in range(5):
            assert ask(served) == expected
        # Two at once: the second of them needs the slot of the one that stalls.
        with served.stream(MODEL, "Once", options={**OPTIONS, "num_predict": 500}) as beside:
            next(beside)
            assert ask(served) == expected


def test_a_killed_server_leaves_no_worker_that_was_in_prefill(served: Any, tools: Any) -> None:
    with in_prefill(served, tools) as (worker, _connection):
        workers = served.workers()
        assert worker.pid in workers
        served.server.process.kill()
        for pid in workers:
            tools.wait_gone(pid)


def test_a_server_that_is_told_to_end_tells_who_waits_for_a_long_prompt(
    served: Any, tools: Any
) -> None:
    with in_prefill(served, tools) as (worker, connection):
        served.server.process.send_signal(signal.SIGTERM)
        status, body = whole_answer(connection)
    assert (status, json.loads(body)) == (503, {"error": "the server is shutting down"})
    assert served.server.process.wait(60) == 0
    tools.wait_gone(worker.pid)


def test_a_model_is_listed_from_the_end_of_its_load_to_the_end_of_its_process(
    served: Any, tools: Any
) -> None:
    assert served.loaded() == []
    served.create("slow", echo_load_ms=60_000)
    with served.connect("slow", "x"):
        tools.until(served.workers)
        ask(served)  # a load of another model delays it not
        assert served.loaded() == [f"{MODEL}:latest"]  # the slow one has not come
    worker = worker_of_model(served)
    served.client.post("/api/generate", json={"model": MODEL, "keep_alive": 0})
    while served.loaded():
        pass
    assert not psutil.pid_exists(worker.pid)
    os.kill(served.server.process.pid, 0)
