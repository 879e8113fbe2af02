"""What clients hear of workers that die, hang or cannot load: their own error at most."""

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal "
    "error, check ollama server logs for details"
)


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any]) -> Any:
    return serve(NUM_PARALLEL="8", MAX_QUEUE="1", LOAD_TIMEOUT="5s")


def test_clients_of_killed_workers_get_one_error_line_and_the_next_request_works(
    served: Any, tools: Any
) -> None:
    for name in ("a", "b"):
        served.create(name, echo_step_ms=5)
    text = tools.varied(1000)
    with served.stream("a", text) as first, served.stream("b", text) as second:
        assert next(first)["response"] == next(second)["response"] == text[0]
        for pid in served.workers():  # the spare one too
            os.kill(pid, signal.SIGKILL)
        for stream in (first, second):
            lines = list(stream)
            assert lines[-1] == {"error": STOPPED}
            assert all("error" not in line for line in lines[:-1])
    served.works("a")
    served.works("b")


def test_a_death_in_mid_stream_is_one_line_of_the_log_that_tells_what_it_cost(
    served: Any, tools: Any
) -> None:
    served.create("logged", echo_step_ms=5)
    text = tools.varied(1000)
    with served.stream("logged", text) as first, served.stream("logged", text) as second:
        assert next(first)["response"] == next(second)["response"] == text[0]
        pids = served.workers()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert list(first)[-1] == list(second)[-1] == {"error": STOPPED}
    served.works("logged")
    said = [line for line in served.server.log if "worker for 'logged:latest'" in line]
    assert len(said) == 1
    found = re.search(r"was killed by SIGKILL \(pid (\d+), requests open: 2\)", said[0])
    assert found, said
    assert int(found[1]) in pids


def test_a_signal_to_the_whole_service_is_a_shutdown_to_those_who_stream(
    serve: Callable[..., Any], tools: Any
) -> None:
    served = serve()
    served.create("slow", echo_step_ms=20)
    with served.stream("slow", tools.varied(3000)) as stream:
        next(stream)
        # As a service manager does: every process of the service, the workers first.
        for pid in (*served.workers(), served.server.process.pid):
            os.kill(pid, signal.SIGTERM)
        assert list(stream)[-1] == {"error": "the server is shutting down"}
    assert served.server.process.wait(timeout=60) == 0
    tools.until(lambda: any("Shut down" in line for line in served.server.log))
    log = "".join(served.server.log)
    assert "SIGTERM: shutting down (requests open: 1)" in log
    assert "worker for 'slow" not in log


def test_an_engine_that_fails_before_the_first_piece_is_a_status_with_its_last_words(
    served: Any,
) -> None:
    served.create("fails", echo_fail_at=1)
    answer = served.ask("fails")
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error.startswith(STOPPED + ": RuntimeError: echo was told to fail in this step")


def test_a_load_that_fails_is_an_answer_with_its_reason(served: Any) -> None:
    served.create("bad", echo_load_fails=True)
    answer = served.ask("bad")
    assert answer.status_code == 500
    assert "echo was told to fail: unset echo_load_fails" in answer.json()["error"]


def test_a_load_without_progress_times_out(served: Any) -> None:
    served.create("stuck", echo_load_ms=60_000, echo_load_silent=True)
    answer = served.ask("stuck")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("timed out waiting for llama-server to start - ")


def test_a_model_whose_workers_keep_dying_rests(served: Any) -> None:
    served.create("dies", echo_load_dies=True)
    for _ in range(3):
        error = served.ask("dies").json()["error"]
        assert error == f"{STOPPED}: backend 'echo' was to load it"
    assert "3 workers of it died within 60 s, retry in" in served.ask("dies").json()["error"]
    served.create("healthy")
    served.works("healthy")


def test_a_model_over_the_memory_budget_is_refused_with_both_numbers(served: Any) -> None:
    served.create("big", echo_memory_bytes=3 << 30)
    answer = served.ask("big")
    assert answer.status_code == 500
    assert "(3.0 GiB) than is available (1.0 GiB)" in answer.json()["error"]


def test_with_eight_slots_and_a_queue_of_one_a_ninth_waits_and_a_tenth_is_told_to_come_later(
    served: Any, tools: Any
) -> None:
    served.create("m", echo_step_ms=10)
    connections = [served.connect("m", tools.varied(3000)) for _ in range(8)]
    for connection in connections:
        assert connection.recv(12) == b"HTTP/1.1 200"
    ninth = served.queue("m", "ninth", stream=False)
    tools.until(lambda: served.is_full("m"))
    tenth = served.ask("m", "tenth")
    assert tenth.json() == {
        "error": "server busy, please try again.  maximum pending requests exceeded"
    }
    for connection in connections:
        connection.close()
    assert ninth.recv(12) == b"HTTP/1.1 200"
    ninth.close()
