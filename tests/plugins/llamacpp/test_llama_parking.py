"""Cached conversations beside the context, in the library's own copies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Loop = Callable[..., Any]
QUESTION = "<|im_start|>user\ncapital of Italy?<|im_end|>\n<|im_start|>assistant\n"
LONG = "<|im_start|>system\n" + "be brief and be kind. " * 7 + "<|im_end|>\n" + QUESTION
OTHERS = ["a text that begins in another way " * 6, "so does this one, but not alike " * 6]
ANSWER = "Rome.<|im_end|>"


def cells(loop: Any) -> int:
    """Cells that are in use, as the engine counts them."""
    return int(loop.engine._memory.used)


@pytest.mark.parametrize("kind", ["f16", "f32"])
@pytest.mark.parametrize("flash", [True, False], ids=["fused", "plain"])
def test_a_conversation_is_copied_out_and_back(
    greedy: Loop, tiny_chat: Path, kind: str, *, flash: bool
) -> None:
    loop = greedy(tiny_chat, slots=4, num_ctx=256, kv_cache_type=kind, flash_attention=flash)
    first = loop.job(LONG)
    (answer,) = loop.run(first)
    alone = loop.last_row[first.id]
    for other in OTHERS:
        loop.answer(other, tokens=2)
    assert cells(loop) <= sum(map(len, OTHERS)) + 4

    again = loop.job(LONG)
    assert loop.run(again) == [answer]
    assert loop.cached[again.id] == first.prompt.length - 1
    assert loop.last_row[again.id] == pytest.approx(
        alone, abs=0.05
    )  # one row is computed otherwise


def test_jobs_that_run_lose_nothing_while_others_are_copied(greedy: Loop, tiny_chat: Path) -> None:
    loop = greedy(tiny_chat, slots=4, num_ctx=256)
    answer = loop.answer(LONG)
    loop.answer(OTHERS[0], tokens=2)
    running = loop.job(QUESTION)
    assert loop.admit(running)
    loop.step()
    loop.step()
    back, new = loop.job(LONG), loop.job(OTHERS[1], tokens=3)
    loop.run(back, new)
    assert loop.cached[back.id] == back.prompt.length - 1
    decode = loop.engine.tokenizer.decode
    assert [decode(loop.texts[job.id]).decode() for job in (running, back)] == [
        ANSWER,
        answer,
    ]


def test_without_memory_for_them_they_stay_in_the_context(greedy: Loop, tiny_chat: Path) -> None:
    loop = greedy(tiny_chat, slots=4, num_ctx=256, cache_ram=0)
    first = loop.job(LONG)
    loop.run(first)
    for other in OTHERS:
        loop.answer(other, tokens=2)
    assert cells(loop) > first.prompt.length + sum(map(len, OTHERS))
    again = loop.job(LONG)
    loop.run(again)
    assert loop.cached[again.id] == first.prompt.length - 1


@pytest.mark.parametrize("kind", ["tiny_mamba", "tiny_hybrid", "tiny_windowed"])
def test_a_model_whose_state_is_kept_in_the_context_alone_says_so(
    open_engine: Loop, kind: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind)
    said = "is ignored: this model's state is cached in the context alone"
    assert open_engine(path, cache_ram=64).info.warnings["cache_ram"] == said
    assert "cache_ram" not in open_engine(path).info.warnings
