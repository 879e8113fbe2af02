"""Several sequences in one run: rows of one memory, whatever comes and goes."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_onnx.batched import BatchedModel, takes_batches
from corral_onnx.config import genai_config
from corral_onnx.graph import Graph
from corral_onnx.native import Native

Loop = Callable[..., Any]
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
QUESTIONS = ("capital of Italy?", "who are you?", "give me json", "count to five")
FOLDERS = ["tiny-chat-onnx", "tiny-chat-onnx-int4"]
DECODER = {"num_hidden_layers": 1, "num_key_value_heads": 1, "head_size": 8}
CACHES = {"past_key_values.0.key", "past_key_values.0.value"}
INPUTS = frozenset({"input_ids", "attention_mask", *CACHES})
OPERATORS = frozenset({"GroupQueryAttention", "MatMulNBits"})


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest, tiny_chat_onnx: Path) -> Path:
    return tiny_chat_onnx.with_name(request.param)


@pytest.fixture
def loop(greedy: Loop, folder: Path) -> Any:
    made = greedy(folder, slots=4, num_ctx=256)
    assert isinstance(made.engine._native, BatchedModel)
    return made


def writing(loop: Any, count: int) -> list[int]:
    """Have jobs write that will go on for some time."""
    jobs = [loop.job(CHAT.format("who are you?"), 30, cache_scope=f"{n}") for n in range(count)]
    assert all(loop.admit(job) for job in jobs)
    while any(len(loop.texts[job.id]) < 3 for job in jobs):
        loop.step()
    return [job.id for job in jobs]


def test_jobs_that_come_and_go_write_what_each_writes_alone(loop: Any) -> None:
    prompts = [CHAT.format(question + " " * (n % 3)) for n, question in enumerate(QUESTIONS * 3)]
    alone = {}
    for number, prompt in enumerate(prompts):
        alone[prompt] = loop.run(loop.job(prompt, 40, cache_scope=f"alone {number}"))[0]
    dice = random.Random(4)
    for turn in range(12):
        waiting = [(prompt, loop.job(prompt, 40, cache_scope=f"{turn % 3}")) for prompt in prompts]
        dice.shuffle(waiting)
        ended = waiting.copy()
        while waiting or loop._limits:
            if waiting and dice.random() < 0.5 and loop.admit(waiting[0][1]):
                waiting.pop(0)
            running = [entry for entry in ended if entry[1].id in loop._limits]
            if running and dice.random() < 0.02:
                ended.remove(running[0])
                loop.release(running[0][1].id)
            if loop._limits:
                loop.step()
        assert len(ended) > len(prompts) / 2
        assert all(loop.texts[job.id] == alone[prompt] for prompt, job in ended)


def test_all_that_write_go_on_in_one_run(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    run = loop.engine._native._run

    def counted(first: int, lengths: Any, token_ids: Any) -> Any:
        runs.append(len(token_ids))
        return run(first, lengths, token_ids)

    monkeypatch.setattr(loop.engine._native, "_run", counted)
    writing(loop, 4)
    runs.clear()
    loop.step()
    assert runs == [4]


def test_a_row_is_that_of_a_generator(loop: Any, folder: Path) -> None:
    """Beside three others, whose texts are of other lengths."""
    model = loop.engine._native
    texts = [[65 + n] * (3 + 20 * n) for n in range(4)]
    strands = [model.strand(100) for _ in texts]
    for strand, text in zip(strands, texts, strict=True):
        strand.feed(text[:60])
    model._swap(strands[0].place, strands[3].place)
    rows = model.go_on(strands[1:3], [66, 67])
    for strand in strands:
        strand.close()
    native = Native(folder, ("decoder",), 1, [])
    for row, text, last in zip(rows, texts[1:3], (66, 67), strict=True):
        strand = native.strand(100)
        strand.feed(text[:60])
        strand.feed([last])
        np.testing.assert_allclose(row, strand.row(), atol=2e-3)


def test_a_run_that_fails_ends_those_who_were_in_it_and_nobody_else(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_ids = writing(loop, 2)

    def fails(*_: Any) -> None:
        raise RuntimeError("no luck")

    session = loop.engine._native._session
    with monkeypatch.context() as context:
        context.setattr(session, "run_with_iobinding", fails)
        errors = {rows.job_id: rows.error for rows in loop.engine.forward()}
    assert errors == dict.fromkeys(job_ids, "ONNX Runtime failed: no luck")
    for job_id in job_ids:
        loop.release(job_id)
    assert loop.answer(CHAT.format("capital of Italy?")).startswith("Rome.")


def test_one_job_at_a_time_has_a_generator(greedy: Loop, tiny_chat_onnx: Path) -> None:
    assert isinstance(greedy(tiny_chat_onnx, slots=1).engine._native, Native)


@pytest.mark.parametrize(
    ("decoder", "graph", "takes"),
    [
        ({}, Graph(INPUTS, frozenset(), OPERATORS), True),
        ({}, Graph(INPUTS | {"position_ids"}, frozenset(), OPERATORS), True),
        (
            {"session_options": {"log_id": "a", "provider_options": []}},
            Graph(INPUTS, frozenset(), OPERATORS),
            True,
        ),
        (
            {"session_options": {"graph_optimization_level": "ORT_DISABLE_ALL"}},
            Graph(INPUTS, frozenset(), OPERATORS),
            False,
        ),
        ({"run_options": {"gpu_graph_id": "1"}}, Graph(INPUTS, frozenset(), OPERATORS), False),
        ({"sliding_window": {"window_size": 4}}, Graph(INPUTS, frozenset(), OPERATORS), False),
        ({"num_hidden_layers": 2}, Graph(INPUTS, frozenset(), OPERATORS), False),
        ({}, Graph(INPUTS - {"past_key_values.0.key"}, frozenset(), OPERATORS), False),
        ({}, Graph(INPUTS | {"past_conv.0"}, frozenset(), OPERATORS), False),
        ({}, Graph(INPUTS, frozenset({"lora_A"}), OPERATORS), False),
        ({}, Graph(INPUTS, frozenset(), frozenset({"MultiHeadAttention"})), False),
        ({}, Graph(INPUTS, frozenset(), OPERATORS | {"DynamicQuantizeMatMul"}), False),
        ({}, Graph(), False),
    ],
    ids=[
        "usual",
        "positions",
        "harmless options",
        "options",
        "options of runs",
        "a window",
        "more layers",
        "a cache less",
        "a state more",
        "adapters",
        "other attention",
        "rows that mix",
        "unreadable",
    ],
)
def test_what_a_batch_is_right_for(decoder: dict[str, Any], graph: Graph, takes: bool) -> None:  # noqa: FBT001 - a column
    document = {"decoder": DECODER | decoder, "context_length": 64, "vocab_size": 259}
    assert takes_batches(genai_config({"model": document}), graph) is takes
