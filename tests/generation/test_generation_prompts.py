"""What a prompt is made of: template, system, the model's own messages, raw text, old context."""

from typing import Any

import pytest

from corral_kernel.errors import RemoteJobError

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROBOT = "<|im_start|>{}\n{}<|im_end|>\n"


def rendered(*turns: tuple[str, str]) -> str:
    return "".join(ROBOT.format(*turn) for turn in turns) + "<|im_start|>assistant\n"


OWN = [{"role": "user", "content": "u0"}, {"role": "assistant", "content": "a0"}]


@pytest.fixture(scope="module")
def talker(kernel: Any) -> str:
    """A model with a system message and messages of its own."""
    return str(kernel.create("talker", base="tiny", system="sys", messages=OWN))


OWN_TURNS = [("user", "u0"), ("assistant", "a0")]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([("user", "hi")], [("system", "sys"), *OWN_TURNS, ("user", "hi")]),
        (
            [("system", "mine"), ("user", "hi")],
            [*OWN_TURNS, ("system", "mine"), ("user", "hi")],
        ),
        (
            [("user", "hi"), ("system", "mine")],
            [("system", "sys"), *OWN_TURNS, ("user", "hi"), ("system", "mine")],
        ),
        (
            [("poet", "ha")],
            [("system", "sys"), *OWN_TURNS, ("poet", "ha")],
        ),
    ],
    ids=["the model's system", "the request's first", "the request's later", "any role"],
)
async def test_a_chat_follows_the_models_own_messages(
    kernel: Any, talker: str, turns: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    assert await kernel.rendered(talker, *turns) == rendered(*expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [("system", "sys"), *OWN_TURNS, ("user", "hi")]),
        ({"system": "mine"}, [("system", "mine"), *OWN_TURNS, ("user", "hi")]),
        ({"context_ids": (120, 121)}, [("system", "sys"), ("user", "hi")]),
    ],
    ids=["as it is", "system given", "context given"],
)
async def test_a_prompt_is_put_into_the_template(
    kernel: Any, talker: str, fields: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    answer = await kernel.generate(talker, "hi", render_only=True, **fields)
    before = "xy" if "context_ids" in fields else ""
    assert answer.accepted.rendered == before + rendered(*expected)
    assert answer.done.output_tokens == 0


async def test_a_raw_prompt_is_taken_as_it_is(kernel: Any, talker: str) -> None:
    answer = await kernel.raw(talker, "monday tuesday", render_only=True)
    assert answer.accepted.rendered == "monday tuesday"
    answer = await kernel.raw(talker, "monday tuesday")
    assert answer.text == " wednesday thursday friday saturday sund"
    assert answer.done.token_ids == ()


async def test_control_tokens_written_in_a_prompt_are_those_tokens(kernel: Any) -> None:
    by_template = await kernel.chat("tiny", "capital of Spain?")
    by_hand = await kernel.raw("tiny", rendered(("user", "capital of Spain?")))
    assert by_hand.text == by_template.text == "Madrid."
    assert by_hand.done.prompt_tokens == by_template.done.prompt_tokens


async def test_context_carries_a_conversation_on(kernel: Any) -> None:
    first = await kernel.generate("tiny", "capital of France?")
    assert first.text == "Paris."
    ids = first.done.token_ids
    assert len(ids) == first.done.prompt_tokens + len("Paris.")
    second = await kernel.generate("tiny", "count to five", context_ids=ids, render_only=True)
    expected = (
        rendered(("user", "capital of France?")) + "Paris." + rendered(("user", "count to five"))
    )
    assert second.accepted.rendered == expected
    second = await kernel.generate("tiny", "count to five", context_ids=ids)
    assert second.done.token_ids[: len(ids)] == ids
    assert second.done.cached_tokens >= len(ids)  # nothing of it was computed again
    whole = await kernel.raw("tiny", expected)
    assert second.text == whole.text


@pytest.mark.parametrize("token_id", [259, -1, 10**9])
async def test_context_of_another_model_is_refused(kernel: Any, token_id: int) -> None:
    with pytest.raises(RemoteJobError, match=f"context holds token id {token_id}") as caught:
        await kernel.generate("tiny", "hi", context_ids=(1, token_id))
    assert caught.value.remote_code == "unsupported"


async def test_a_prompt_of_no_text_is_the_token_that_begins_a_sequence(kernel: Any) -> None:
    answer = await kernel.generate("plain", "", num_predict=1)
    assert answer.done.prompt_tokens == 1


async def test_an_answer_that_was_begun_is_carried_on(kernel: Any) -> None:
    answer = await kernel.chat("tiny", "count to five", ("assistant", "one two"))
    assert answer.text == " three four five."
