"""Many at once: the same answers as alone, and what they have in common computed once."""

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTIONS = [
    "capital of France?",
    "capital of Italy?",
    "capital of Spain?",
    "capital of Japan?",
    "color of grass?",
    "who are you?",
    "count to five",
    "give me json",
]


async def test_eight_streams_answer_as_each_alone(kernel: Any) -> None:
    alone = [await kernel.chat("tiny", question) for question in QUESTIONS]
    assert len({answer.done.output_tokens for answer in alone}) > 4
    at_once = await asyncio.gather(*(kernel.chat("tiny", question) for question in QUESTIONS))
    assert [answer.text for answer in at_once] == [answer.text for answer in alone]


async def test_eight_long_streams_go_on_as_each_alone(kernel: Any) -> None:
    def ask(place: int) -> Any:
        prompt = QUESTIONS[place] * (place + 1)
        return kernel.raw("endless-tiny", prompt, num_predict=40 + 30 * place)

    alone = [await ask(place) for place in range(8)]
    at_once = await asyncio.gather(*(ask(place) for place in range(8)))
    assert [answer.text for answer in at_once] == [answer.text for answer in alone]
    assert [answer.done.output_tokens for answer in at_once] == [40 + 30 * i for i in range(8)]


async def test_a_system_prompt_of_more_chats_than_slots_is_computed_once(kernel: Any) -> None:
    system = ("system", "be brief and kind. " * 6)
    kernel.create("shared", base="tiny", parameters={"num_ctx": 224})
    answers = await asyncio.gather(
        *(kernel.chat("shared", system, question) for question in QUESTIONS * 2)
    )
    common = len(f"-{system[0]}\n{system[1]}-\n-user\n")  # in tokens: a mark is one
    computed = sum(answer.done.prompt_tokens - answer.done.cached_tokens for answer in answers)
    own = sum(answer.done.prompt_tokens - common for answer in answers)
    assert all(answer.done.prompt_tokens > common for answer in answers)
    assert computed <= common + own
    assert [answer.text for answer in answers[:8]] == [answer.text for answer in answers[8:]]


async def test_a_second_turn_computes_only_what_is_new(kernel: Any) -> None:
    first = await kernel.chat("tiny", "capital of France?")
    turns = ["capital of France?", ("assistant", first.text), "capital of Japan?"]
    second = await kernel.chat("tiny", *turns)
    new = second.done.prompt_tokens - second.done.cached_tokens
    said = first.done.prompt_tokens + len(first.text)
    assert second.done.cached_tokens >= said
    assert new == second.done.prompt_tokens - second.done.cached_tokens > 0
