"""Engines with a loop of their own, in a real worker: every frame that comes of their requests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_kernel import API_VERSION, frames
from corral_kernel.contracts import Claim, Message
from corral_kernel.options import RequestOptions

Start = Callable[..., Any]
ONLY = ("chatter", "chat")


def load(slots: int = 8, takes: str = "chat", **options: Any) -> frames.Load:
    claim = Claim(
        backend="chatter",
        confidence=1.0,
        why="a test",
        capabilities=("completion",),
        takes=takes,  # type: ignore[arg-type] # one of its two
        private={"base_url": "https://example.org/v1"},
    )
    return frames.Load(
        api_version=API_VERSION,
        plugin="chatter",
        claim=claim,
        options={"num_ctx": 4096, "num_batch": 512, "chatter_takes": takes, **options},
        files=(),
        slots=slots,
    )


@pytest.fixture
def start(raw_worker: Start, text_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a worker with the engine `chatter`; keywords are those of `load`."""
    monkeypatch.setenv("PYTHONPATH", str(text_plugin))
    return lambda **given: raw_worker(load(**given), only=ONLY)


def job(job_id: int, text: str, **fields: Any) -> frames.Generate:
    options = RequestOptions(**fields.pop("options", {}))
    messages = (Message(role="user", content=text),)
    prompt = fields.pop("prompt", frames.PromptSpec(messages=messages))
    return frames.Generate(job_id=job_id, prompt=prompt, options=options, **fields)


def ask(worker: Any, job_id: int, text: str, **fields: Any) -> Any:
    """Run a job alone; give its last event."""
    worker.send(job(job_id, text, **fields))
    worker.until_end(job_id)
    return worker.of(job_id)[-1]


def told(worker: Any, job_id: int, text: str, **fields: Any) -> Any:
    """Run a job that answers with JSON."""
    assert isinstance(ask(worker, job_id, text, **fields), frames.Done)
    return json.loads(worker.text(job_id))


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


# ------------------------------------------------------------------------------------- answers


def test_an_answer_of_an_engine_that_takes_texts_is_read(start: Start) -> None:
    worker = start(takes="text")
    go = "{{ range .Messages }}{{ .Content }}{{ end }}"
    call = '{"name": "f", "arguments": {"a": 1}}'
    prompt = frames.PromptSpec(
        renderer="go",
        template=go,
        messages=(Message(role="user", content=call),),
        tools=({"type": "function", "function": {"name": "f"}},),
    )
    reading = frames.Reading(parser="generic", calls=True)
    done = ask(worker, 1, "", prompt=prompt, reading=reading)
    assert isinstance(done, frames.Done)
    (found,) = [event for event in worker.of(1) if isinstance(event, frames.ToolCall)]
    assert (found.name, found.arguments, found.last) == ("f", '{"a":1}', True)
    assert found.id.startswith("call_")
    assert worker.text(1).strip() == ""


def test_a_request_is_accepted_gives_its_pieces_and_ends_with_what_the_engine_counted(
    start: Start,
) -> None:
    worker = start()
    done = ask(worker, 1, "some few words")
    assert kinds(worker.of(1)) == ["Accepted", "Text", "Text", "Text", "Done"]
    assert worker.text(1) == "some few words "
    assert (done.reason, done.prompt_tokens, done.cached_tokens) == ("stop", 1, 1)
    assert (done.output_tokens, done.steps, done.token_ids) == (3, 0, ())
    assert done.prompt_ns > 0
    assert done.output_ns > 0
    assert worker.ends() == {1: 1}


def test_an_engine_is_told_all_that_the_request_sets_and_nothing_else(start: Start) -> None:
    worker = start()
    plain = told(worker, 1, "!request")
    assert plain == {
        "target": "",
        "messages": [{"role": "user", "content": "!request"}],
        "prompt": "",
        "max_tokens": None,
        "seed": None,
        "stop": [],
        "sampling": {},
        "format": "",
        "logprobs": None,
    }
    given = told(
        worker,
        2,
        "!request",
        target="some/model",
        sampling={"temperature": 0.0},
        options={"seed": 7, "num_predict": 9, "stop": ("§",)},
        constraint="json",
        format=b'"json"',
        logprobs=3,
    )
    assert (given["target"], given["sampling"]) == ("some/model", {"temperature": 0.0})
    assert (given["seed"], given["max_tokens"], given["stop"]) == (7, 9, ["§"])
    assert (given["format"], given["logprobs"]) == ('"json"', 3)


def test_a_raw_prompt_is_handed_on_as_one(start: Start) -> None:
    given = told(start(), 1, "", prompt=frames.PromptSpec(text="!request"))
    assert (given["prompt"], given["messages"]) == ("!request", None)


def test_an_engine_that_takes_texts_gets_them_rendered(start: Start) -> None:
    worker = start(takes="text")
    prompt = frames.PromptSpec(
        renderer="jinja",
        template="{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}!request",
        messages=(Message(role="user", content="hi"),),
    )
    given = told_after(worker, prompt)
    assert (given["prompt"], given["messages"]) == ("user: hi !request", None)
    worker.send(job(2, "", prompt=prompt, render_only=True))
    worker.until_end(2)
    assert worker.of(2, frames.Accepted)[0].rendered == "user: hi !request"
    failed = ask(worker, 3, "", prompt=frames.PromptSpec(renderer="jinja", template="{% if"))
    assert failed.code == "template"


def told_after(worker: Any, prompt: frames.PromptSpec) -> Any:
    worker.send(job(1, "", prompt=prompt))
    worker.until_end(1)
    return json.loads(worker.text(1).partition("{")[1] + worker.text(1).partition("{")[2])


def test_stop_strings_are_cut_whatever_the_engine_makes_of_them(start: Start) -> None:
    worker = start()
    done = ask(worker, 1, "one two three four", options={"stop": ("o three",)})
    assert (worker.text(1), done.reason) == ("one tw", "stop")
    assert (done.prompt_tokens, done.output_tokens) == (0, 0)  # it was not waited for its counts
    done = ask(worker, 2, "one two three", options={"stop": ("three four",)})
    assert (worker.text(2), done.output_tokens) == ("one two three ", 3)
    counts = told(worker, 3, "!counts")
    assert counts["opened"] == counts["closed"] + 1


def test_a_stop_string_ends_an_answer_that_the_engine_would_go_on_with(start: Start) -> None:
    worker = start()
    done = ask(worker, 1, "go on !hang", options={"stop": ("on",)})
    assert (worker.text(1), done.reason) == ("go ", "stop")
    assert told(worker, 2, "!counts")["closed"] == 1


def test_thoughts_come_as_thoughts(start: Start) -> None:
    worker = start()
    assert isinstance(ask(worker, 1, "!think so"), frames.Done)
    texts = [(event.thinking, event.content) for event in worker.of(1, frames.Text)]
    assert texts == [("hm ", ""), ("", "so ")]


def test_halves_of_characters_are_put_together_and_lone_ones_replaced(start: Start) -> None:
    worker = start()
    assert isinstance(ask(worker, 1, "!halves"), frames.Done)
    assert worker.text(1) == "😀\ufffd!\ufffdü"
    thinking = "".join(event.thinking for event in worker.of(1, frames.Text))
    assert thinking == worker.text(1)


def test_logprobs_stand_beside_the_text_of_their_tokens(start: Start) -> None:
    worker = start()
    ask(worker, 1, "!tokens", logprobs=1)
    texts = worker.of(1, frames.Text)
    assert worker.text(1) == "alphabeta"
    found = [(text.content, [lp.token for lp in text.logprobs]) for text in texts]
    assert found == [("al", ["al"]), ("pha", ["pha"]), ("be", ["b", "e"]), ("ta", ["other"])]
    first, last = texts[0].logprobs[0], texts[2].logprobs[0]
    assert (first.logprob, first.bytes, [top.token for top in first.top]) == (-0.5, b"al", ["zz"])
    assert last.logprob == -9999.0
    ask(worker, 2, "!tokens")
    assert all(not text.logprobs for text in worker.of(2, frames.Text)), "nobody asked for them"


def test_logprobs_of_what_a_stop_string_took_away_are_not_told(start: Start) -> None:
    worker = start()
    ask(worker, 1, "!tokens", logprobs=0, options={"stop": ("habe",)})
    tokens = [lp.token for text in worker.of(1, frames.Text) for lp in text.logprobs]
    assert (worker.text(1), tokens) == ("alp", ["al", "pha"])


# ------------------------------------------------------------------------------------- vectors


def vectors(job_id: int, *texts: str, **fields: Any) -> frames.Encode:
    return frames.Encode(job_id=job_id, texts=texts, **fields)


def rows(worker: Any, job_id: int) -> Any:
    (event,) = worker.of(job_id, frames.Vectors)
    return np.frombuffer(event.data, "<f4").reshape(event.count, -1)


def test_vectors_are_shaped_as_the_request_asks(start: Start) -> None:
    worker = start()
    worker.send(vectors(1, "a", "four", target="12345"))
    worker.send(vectors(2, "a", normalize=False, dimensions=3, truncate=False))
    worker.until_end(1, 2)
    expected = np.array([[1, 5, 0, 1], [4, 5, 0, 1]]) / np.sqrt([[27], [42]])
    np.testing.assert_allclose(rows(worker, 1), expected, rtol=1e-6)
    np.testing.assert_array_equal(rows(worker, 2), [[1, 0, 3]])
    assert worker.of(1, frames.Done)[0].prompt_tokens == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!raise", "RuntimeError: the engine was told to fail"),
        ("!nan", "embedding contains NaN or Inf values"),
        ("!few", "the engine gave 1x4 numbers for 2 texts"),
    ],
)
def test_vectors_that_are_none_fail_their_own_request(start: Start, text: str, words: str) -> None:
    worker = start()
    worker.send(vectors(1, text, "b"), vectors(2, "a"))
    worker.until_end(1, 2)
    (failed,) = worker.of(1)
    assert (failed.code, failed.message) == ("engine", words)
    assert len(rows(worker, 2)) == 1


def test_vectors_can_be_cancelled(start: Start) -> None:
    worker = start()
    worker.send(vectors(1, "!hang"), frames.Cancel(job_id=1))
    worker.until_end(1)
    assert worker.of(1)[0].code == "cancelled"
    assert worker.ends() == {1: 1}


# --------------------------------------------------------------------------------- its contract


def test_an_engine_that_is_not_what_its_claim_said_is_not_loaded(
    raw_worker: Start, text_plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(text_plugin))
    answer = raw_worker(only=ONLY).load(load(chatter_breaks=True))
    assert isinstance(answer, frames.LoadFailed)
    assert "its claim takes 'chat', its engine 'text'" in answer.message


def test_what_the_engine_does_not_obey_is_refused_by_name(start: Start) -> None:
    worker = start()
    failed = ask(worker, 1, "a", sampling={"min_p": 0.5})
    assert failed.code == "unsupported"
    assert failed.message.startswith('option "min_p" cannot be obeyed: ')
    assert failed.message.endswith("and obeys temperature, top_p")
    failed = ask(worker, 2, "a", constraint="regex", format=b'{"type":"regex"}')
    assert "format 'regex' cannot be enforced" in failed.message
    failed = ask(worker, 3, "a", score=frames.Score())
    assert failed.code == "unsupported"
