"""What of finished jobs is of use to later ones, and how much memory a job takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_kernel.errors import OutOfMemoryError
from corral_onnx.strands import Strand

Loop = Callable[..., Any]
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
END = "<|im_end|>"


@pytest.fixture
def loop(way: str, greedy: Loop, tiny_chat_onnx: Path) -> Any:
    assert way
    return greedy(tiny_chat_onnx, slots=2, num_ctx=256)


@pytest.fixture
def generated(generators: None, greedy: Loop, tiny_chat_onnx: Path) -> Any:
    return greedy(tiny_chat_onnx, slots=2, num_ctx=256)


def capacities(loop: Any) -> list[int]:
    lanes = loop.engine._lanes
    return [lane.strand.capacity for lane in (*lanes._running, *lanes._kept)]


def cached(loop: Any, prompt: str, tokens: int = 5, **more: Any) -> int:
    job = loop.job(prompt, tokens, **more)
    loop.run(job)
    assert loop.fed[job.id] + loop.cached[job.id] == job.prompt.length + len(loop.texts[job.id]) - 1
    return loop.cached[job.id]


def test_a_second_prompt_feeds_only_what_the_first_did_not(loop: Any) -> None:
    prompt = CHAT.format("count to five")
    first, again = loop.job(prompt), loop.job(prompt)
    loop.run(first)
    loop.run(again)
    assert loop.cached[again.id] == first.prompt.length - 1  # one token is always fed
    assert loop.texts[again.id] == loop.texts[first.id]


def test_a_conversation_that_takes_the_context_goes_on_where_it_was(loop: Any) -> None:
    first = CHAT.format("count to five")
    length = len(loop.engine.tokenizer.encode(first, special=True))
    loop.run(loop.job(first, 256 - length))
    turn = first + "one two three four five." + END + "\n" + CHAT.format("who are you?")
    again = loop.job(turn, 256 - len(loop.engine.tokenizer.encode(turn, special=True)))
    loop.run(again)
    assert loop.cached[again.id] == length + len("one two three four five.")
    assert loop.steps > 0


def test_a_conversation_in_small_steps_is_given_room_to_grow(loop: Any) -> None:
    text, reused = "", []
    for number in range(6):
        text += f"turn number {number}. "
        reused.append(cached(loop, text, tokens=4))
    assert reused[0] == 0
    assert sum(1 for number in reused if number) >= 3  # all but the first and where it outgrew
    assert max(capacities(loop)) <= 256


def test_what_follows_a_reused_beginning_is_what_a_fresh_job_says(loop: Any) -> None:
    prompts = [CHAT.format(q) for q in ("count to five", "who are you?", "give me json")]
    fresh = [loop.run(loop.job(p, 30, cache_scope=p))[0] for p in prompts]
    rows = [row.copy() for row in loop.last_row.values()]
    shared = [loop.run(loop.job(p, 30))[0] for p in (*prompts, *prompts)]
    assert shared == fresh * 2
    assert loop.cached[max(loop.cached)] > 0
    for row, again in zip(rows * 2, list(loop.last_row.values())[3:], strict=True):
        np.testing.assert_allclose(row, again, atol=1e-4)


def test_scopes_share_no_beginnings(loop: Any) -> None:
    prompt = CHAT.format("who are you?")
    assert cached(loop, prompt, cache_scope="mine") == 0
    assert cached(loop, prompt, cache_scope="yours") == 0
    assert cached(loop, prompt, cache_scope="mine") > 0


def test_a_job_released_in_mid_prefill_leaves_what_it_was_fed(loop: Any) -> None:
    job = loop.job("y" * 200, tokens=3)
    loop.admit(job)
    loop.step()
    loop.release(job.id)
    assert cached(loop, "y" * 200, tokens=3) == 64


def test_a_little_in_common_does_not_cost_a_long_text(loop: Any) -> None:
    cached(loop, "ab" + "c" * 120)
    assert cached(loop, "ab" + "d" * 20) == 0
    assert cached(loop, "ab" + "c" * 120) == 121


def test_a_job_gets_the_memory_that_it_asks_for_and_no_more(generated: Any) -> None:
    made: list[Strand] = []
    make = generated.engine._lanes.make
    generated.engine._lanes.make = lambda capacity, adapter: (
        made.append(make(capacity, adapter)) or made[-1]
    )
    for prompt, tokens in (("a" * 10, 5), ("b" * 100, 156), ("c" * 30, 1)):
        generated.run(generated.job(prompt, tokens, cache_scope=prompt))
    assert [strand.capacity for strand in made] == [15, 256, 31]


def test_a_text_that_outgrows_its_memory_gets_at_most_twice_what_it_needs(generated: Any) -> None:
    made: list[int] = []
    make = generated.engine._lanes.make
    generated.engine._lanes.make = lambda capacity, adapter: (
        made.append(capacity) or make(capacity, adapter)
    )
    for length in range(20, 240, 20):
        generated.run(generated.job("x" * length, 4))
    # The first exactly prompt + max_tokens; each later one twice that, never over num_ctx.
    assert made == [24, 2 * 44, 2 * 104, 256]
    assert len(capacities(generated)) == 1


def test_lanes_never_have_more_than_the_slots_contexts(loop: Any) -> None:
    for number in range(12):
        loop.run(loop.job(chr(65 + number) * (20 + 15 * number), 10 + number))
        assert sum(capacities(loop)) <= 2 * 256
    jobs = [loop.job(letter * 156, 100) for letter in "xy"]
    assert all(loop.admit(job) for job in jobs)
    assert sum(capacities(loop)) == 2 * 256
    for job in jobs:
        loop.release(job.id)


def test_few_lanes_are_kept_however_small(greedy: Loop, tiny_chat_onnx: Path) -> None:
    loop = greedy(tiny_chat_onnx, slots=4, num_ctx=256)
    for number in range(30):
        loop.run(loop.job(chr(65 + number) * 6, 1))
    assert len(capacities(loop)) <= 8
    assert cached(loop, chr(65 + 29) * 6, tokens=1) == 5
    assert cached(loop, "AAAAAA", tokens=1) == 0


def test_a_model_that_cannot_go_back_keeps_nothing(loop: Any) -> None:
    loop.engine._lanes.can_rewind = False
    prompt = CHAT.format("count to five")
    assert [cached(loop, prompt, 30) for _ in range(2)] == [0, 0]
    assert capacities(loop) == []


def test_what_is_kept_makes_room_where_memory_is_short(generated: Any) -> None:
    make, sizes = generated.engine._lanes.make, []

    def scarce(capacity: int, adapter: str) -> Strand:
        sizes.append(capacity)
        if capacities(generated):
            raise OutOfMemoryError("there is not enough memory")
        return make(capacity, adapter)

    generated.run(generated.job("a" * 50, 5))
    generated.engine._lanes.make = scarce
    generated.run(generated.job("b" * 50, 5))
    assert sizes == [55, 55]
    running = generated.job("c" * 20, 5)
    assert generated.admit(running)
    with pytest.raises(OutOfMemoryError):
        generated.admit(generated.job("d" * 100, 5))
    generated.run()
