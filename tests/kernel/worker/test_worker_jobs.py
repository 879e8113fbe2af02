"""What becomes of jobs in a worker: exactly one end each, whatever happens."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from corral_kernel import frames
from corral_kernel.contracts import Message
from corral_kernel.testing.chains import chain_of

Start = Callable[..., Any]

# Loops inside loops stay within the sandbox's own bounds for longer than any deadline here; in this
# conversation alone, not when the renderer first finds out what the template shows.
HOSTILE = frames.PromptSpec(
    renderer="jinja",
    template="{% if messages[0]['content'] == 'loop' %}"
    "{% for a in range(900) %}{% for b in range(900) %}{% for c in range(900) %}"
    "{% endfor %}{% endfor %}{% endfor %}{% endif %}x",
    messages=(Message(role="user", content="loop"),),
)


@pytest.fixture
def job(tools: Any) -> Callable[..., frames.Generate]:
    def job(job_id: int, text: str = "hello", **fields: Any) -> frames.Generate:
        return msgspec.structs.replace(tools.generate(text, **fields), job_id=job_id)

    return job


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_job_is_accepted_then_gives_text_then_ends(
    raw_worker: Start, tools: Any, job: Any
) -> None:
    worker = raw_worker(tools.load())
    worker.send(job(1, "abc"))
    worker.until_end(1)
    assert kinds(worker.of(1)) == ["Accepted", "Text", "Text", "Text", "Done"]
    assert worker.text(1) == "abc"
    assert worker.of(1, frames.Accepted)[0].prompt_tokens == 4


def test_what_overflows_in_a_chain_is_no_warning(
    raw_worker: Start, tools: Any, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error::RuntimeWarning")
    worker = raw_worker(tools.load())
    chain = chain_of({"temperature": 1e-44, "top_k": 0, "min_p": 1e-45})
    worker.send(msgspec.structs.replace(job(1, "abc"), chain=chain))
    worker.until_end(1)
    assert kinds(worker.of(1)) == ["Accepted", "Text", "Text", "Text", "Done"]


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_a_queued_job_can_be_cancelled(raw_worker: Start, tools: Any, job: Any, times: int) -> None:
    worker = raw_worker(tools.load(slots=1, echo_step_ms=5))
    worker.send(job(1, "a" * 300))
    worker.until(lambda: bool(worker.text(1)))
    worker.send(job(2))
    worker.until(lambda: bool(worker.of(2, frames.Accepted)))
    worker.send(*[frames.Cancel(job_id=2)] * times)
    worker.until_end(2)
    assert not worker.ended(1)
    worker.until_end(1)
    assert worker.text(1) == "a" * 300
    assert kinds(worker.of(2)) == ["Accepted", "Failed"]
    assert worker.of(2)[-1].code == "cancelled"
    assert worker.ends() == {1: 1, 2: 1}


def test_a_job_can_be_cancelled_while_its_text_is_prepared(
    raw_worker: Start, tools: Any, job: Any
) -> None:
    worker = raw_worker(tools.load())
    worker.send(job(1, prompt=HOSTILE), frames.Cancel(job_id=1))
    worker.until_end(1)
    worker.send(job(2))
    worker.until_end(2)
    assert kinds(worker.of(1)) == ["Failed"]
    assert worker.text(2) == "hello"
    assert worker.ends() == {1: 1, 2: 1}


def test_a_job_can_be_cancelled_in_prefill(raw_worker: Start, tools: Any, job: Any) -> None:
    worker = raw_worker(tools.load(num_batch=16, echo_step_ms=10))
    worker.send(job(1, "a" * 3000))
    worker.until(lambda: bool(worker.of(1, frames.Accepted)))
    worker.send(frames.Cancel(job_id=1), job(2, "b"))
    worker.until_end(1, 2)
    assert kinds(worker.of(1)) == ["Accepted", "Failed"]
    assert worker.text(2) == "b"
    assert worker.ends() == {1: 1, 2: 1}


def test_a_job_can_be_cancelled_in_decode(raw_worker: Start, tools: Any, job: Any) -> None:
    worker = raw_worker(tools.load(echo_step_ms=5))
    worker.send(job(1, "a" * 3000), job(2, "b" * 300))
    worker.until(lambda: bool(worker.text(1)) and bool(worker.text(2)))
    worker.send(frames.Cancel(job_id=1), frames.Cancel(job_id=1))
    worker.until_end(1)
    assert not worker.ended(2)
    worker.until_end(2)
    assert len(worker.text(1)) < 3000
    assert worker.text(2) == "b" * 300
    assert worker.ends() == {1: 1, 2: 1}


def test_a_cancel_after_the_end_or_of_no_job_changes_nothing(
    raw_worker: Start, tools: Any, job: Any
) -> None:
    worker = raw_worker(tools.load())
    worker.send(job(1))
    worker.until_end(1)
    for job_id in (1, 7):
        worker.send(*(kind(job_id=job_id) for kind in (frames.Cancel, frames.Pause, frames.Resume)))
    worker.send(job(7, "x"))
    worker.until_end(7)
    assert worker.text(7) == "x"
    assert worker.ends() == {1: 1, 7: 1}


def test_a_paused_job_is_not_fed_and_goes_on_when_resumed(
    raw_worker: Start, tools: Any, job: Any
) -> None:
    worker = raw_worker(tools.load(echo_step_ms=1))
    worker.send(job(1, "a" * 300))
    worker.until(lambda: bool(worker.text(1)))
    worker.send(frames.Pause(job_id=1), job(2, "b"))
    worker.until_end(2)
    before = worker.text(1)
    worker.send(job(3, "c" * 50))
    worker.until_end(3)
    assert worker.text(1) == before
    worker.send(frames.Resume(job_id=1))
    worker.until_end(1)
    assert worker.text(1) == "a" * 300
    assert worker.ends() == {1: 1, 2: 1, 3: 1}


def test_a_paused_job_can_be_cancelled_and_gives_its_slot_to_the_next(
    raw_worker: Start, tools: Any, job: Any
) -> None:
    worker = raw_worker(tools.load(slots=1, echo_step_ms=1))
    worker.send(job(1, "a" * 300))
    worker.until(lambda: bool(worker.text(1)))
    worker.send(job(2, "b"), frames.Pause(job_id=1), frames.Cancel(job_id=1))
    worker.until_end(1, 2)
    assert worker.text(2) == "b"
    assert worker.ends() == {1: 1, 2: 1}


@pytest.mark.parametrize("state", ["queued", "in text", "in prefill"])
def test_a_job_paused_before_it_runs_gives_one_token_and_waits(
    raw_worker: Start, tools: Any, job: Any, state: str
) -> None:
    worker = raw_worker(tools.load(slots=2, num_batch=4, echo_step_ms=3))
    if state == "queued":
        worker.send(job(8, "x" * 300), job(9, "y" * 300))
        worker.until(lambda: bool(worker.text(8)) and bool(worker.text(9)))
    worker.send(job(1, "a" * 1000))
    if state != "in text":
        worker.until(lambda: bool(worker.of(1, frames.Accepted)))
    worker.send(frames.Pause(job_id=1))
    worker.until(lambda: bool(worker.text(1)))
    worker.send(job(2, "b" * 30))
    worker.until_end(2)
    assert worker.text(1) == "a"
    worker.send(frames.Resume(job_id=1), frames.Cancel(job_id=99))
    worker.until(lambda: len(worker.text(1)) > 3)


def test_a_job_that_was_paused_and_resumed_while_it_waited_runs(
    raw_worker: Start, tools: Any, job: Any
) -> None:
    worker = raw_worker(tools.load(slots=1, echo_step_ms=1))
    worker.send(job(1, "a" * 60))
    worker.until(lambda: bool(worker.text(1)))
    worker.send(job(2, "bcd"))
    worker.until(lambda: bool(worker.of(2, frames.Accepted)))
    worker.send(frames.Pause(job_id=2), frames.Resume(job_id=2))
    worker.until_end(1, 2)
    assert worker.text(2) == "bcd"


def test_a_template_over_its_deadline_fails_its_job_alone(
    raw_worker: Start, tools: Any, job: Any
) -> None:
    worker = raw_worker(tools.load(echo_step_ms=2), text_deadline_s=1.0)
    worker.send(job(1, "a" * 200), *(job(n, prompt=HOSTILE) for n in range(2, 6)))
    worker.until_end(2, 3, 4, 5)
    assert {worker.of(n)[-1].code for n in range(2, 6)} == {"template"}
    worker.send(job(6))
    worker.until_end(1, 6)
    assert (worker.text(1), worker.text(6)) == ("a" * 200, "hello")
    assert worker.ends() == dict.fromkeys(range(1, 7), 1)


def test_a_job_that_the_engine_fails_ends_alone(raw_worker: Start, tools: Any, job: Any) -> None:
    worker = raw_worker(tools.load(echo_error_prompt="poison"))
    worker.send(job(1, "a" * 100), job(2, "some poison"), job(3))
    worker.until_end(1, 2, 3)
    assert worker.of(2)[-1].code == "engine"
    assert (worker.text(1), worker.text(3)) == ("a" * 100, "hello")
    assert worker.ends() == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"text": "a" * 5000}, "prompt_too_long"),
        ({"prompt": frames.PromptSpec(renderer="latin", template="")}, "plugin"),
        ({"prompt": frames.PromptSpec(renderer="jinja", template="{% if")}, "template"),
        ({"constraint": "json", "format": b'"json"'}, "invalid_format"),
        ({"prompt": frames.PromptSpec(text="", context_ids=(999,))}, "unsupported"),
    ],
    ids=["too long", "no renderer", "broken template", "no constraint", "no such token"],
)
def test_a_job_that_cannot_be_prepared_fails_alone(
    raw_worker: Start, tools: Any, job: Any, fields: dict[str, Any], code: str
) -> None:
    worker = raw_worker(tools.load())
    worker.send(job(1, **fields), job(2))
    worker.until_end(1, 2)
    assert kinds(worker.of(1)) == ["Failed"]
    assert worker.of(1)[0].code == code
    assert worker.text(2) == "hello"


def test_vectors_of_a_model_that_makes_none_are_refused(raw_worker: Start, tools: Any) -> None:
    worker = raw_worker(tools.load())
    worker.send(frames.Encode(job_id=1, texts=("a",)))
    worker.until_end(1)
    assert kinds(worker.of(1)) == ["Failed"]


def beating(load: frames.Load) -> frames.Load:
    return msgspec.structs.replace(load, step_timeout_s=0.4)


def test_a_worker_beats_while_all_its_jobs_are_paused(
    raw_worker: Start, tools: Any, job: Any
) -> None:
    worker = raw_worker(beating(tools.load()))
    worker.send(frames.Pause(job_id=1), job(1, "a" * 50), frames.Pause(job_id=1))
    worker.until(lambda: worker.empty_steps >= 5)
    assert not worker.ended(1)


def test_a_worker_beats_while_text_is_prepared(raw_worker: Start, tools: Any, job: Any) -> None:
    worker = raw_worker(beating(tools.load()))
    worker.send(job(1, prompt=HOSTILE))
    worker.until(lambda: worker.empty_steps >= 5)
    worker.send(frames.Cancel(job_id=1))
    worker.until_end(1)


def test_a_worker_beats_in_a_long_prefill(raw_worker: Start, tools: Any, job: Any) -> None:
    worker = raw_worker(beating(tools.load(num_batch=1, echo_step_ms=10)))
    worker.send(job(1, "a" * 200))
    worker.until(lambda: worker.empty_steps >= 5)
    assert not worker.text(1)


def test_many_jobs_cancelled_at_any_time_have_one_end_each(
    raw_worker: Start, tools: Any, job: Any
) -> None:
    worker = raw_worker(tools.load(slots=3, echo_step_ms=1))
    count = 60
    for n in range(1, count):
        worker.send(job(n, "z" * n))
        if n % 2:
            worker.send(*[frames.Cancel(job_id=max(1, n - n % 7))] * (n % 3))
        if n % 5 == 0:
            worker.send(frames.Pause(job_id=n), frames.Resume(job_id=n))
    worker.until_end(*range(1, count))
    assert worker.ends() == dict.fromkeys(range(1, count), 1)
    assert all(worker.text(n) == "z" * n for n in range(1, count) if worker.of(n, frames.Done))
