"""How long a prompt and an answer may be: the window, `num_predict`, and what is counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import InvalidOptionError, RemoteJobError

pytestmark = pytest.mark.asyncio(loop_scope="module")


def context_tokens(kernel: Any, name: str) -> int:
    running = {model.model.name.model: model.context_tokens for model in kernel.corral.running()}
    return int(running[name])


@pytest.mark.parametrize(
    ("num_ctx", "effective"),
    [(100_000, 256), (64, 64), (3, 4), (-7, 4), (64.9, 64), (0, 256), (None, 256)],
)
async def test_the_window_lies_between_4_and_what_the_model_was_trained_for(
    kernel: Any, num_ctx: Any, effective: int
) -> None:
    await kernel.raw("tiny", "one", num_ctx=num_ctx, num_predict=1)
    assert context_tokens(kernel, "tiny") == effective


async def test_a_model_trained_for_more_gets_4096_positions(
    kernel: Any, with_value: Callable[..., bytes], models: Path
) -> None:
    data = (models / "tiny-chat-f32.gguf").read_bytes()
    kernel.create("long", with_value(data, "llama.context_length", "I", 65536))
    await kernel.raw("long", "one", num_predict=1)
    assert context_tokens(kernel, "long") == 4096


async def test_the_servers_setting_replaces_the_automatic_window(
    start_kernel: Any, models: Path
) -> None:
    kernel = await start_kernel(CORRAL_CONTEXT_LENGTH="48")
    kernel.create("tiny", models / "tiny-chat-f32.gguf")
    kernel.create("own", base="tiny", parameters={"num_ctx": 96})
    for name, effective in (("tiny", 48), ("own", 96)):
        await kernel.raw(name, "one", num_predict=1)
        assert kernel.corral.running()[0].context_tokens == effective


@pytest.mark.parametrize("count", [1, 7, 40])
async def test_num_predict_bounds_the_answer(kernel: Any, count: int) -> None:
    answer = await kernel.raw("endless-tiny", "one", num_predict=count)
    assert (answer.done.output_tokens, answer.reason) == (count, "length")
    assert len(answer.text) == count  # a token is a byte


async def test_num_predict_0_evaluates_the_prompt_alone(kernel: Any) -> None:
    answer = await kernel.raw("tiny", "one two", num_predict=0)
    assert (answer.text, answer.reason) == ("", "length")
    assert (answer.done.prompt_tokens, answer.done.output_tokens) == (7, 0)


@pytest.mark.parametrize("num_predict", [-1, -2, 161, 1_000_000])
async def test_no_answer_is_longer_than_ten_windows(kernel: Any, num_predict: int) -> None:
    answer = await kernel.raw("endless-tiny", "one", num_ctx=16, num_predict=num_predict)
    assert (answer.done.output_tokens, answer.reason) == (160, "length")


async def test_an_answer_that_ends_by_itself_says_stop(kernel: Any) -> None:
    answer = await kernel.chat("tiny", "count to five")
    assert (answer.text, answer.reason) == ("one two three four five.", "stop")


async def test_a_prompt_as_long_as_the_window_gets_one_token_without_shift(kernel: Any) -> None:
    answer = await kernel.raw("tiny", "x" * 64, num_ctx=64, shift=False, truncate=False)
    assert (answer.done.prompt_tokens, answer.done.output_tokens) == (64, 1)
    assert answer.reason == "length"


async def test_counts_and_durations_make_sense(kernel: Any) -> None:
    first = await kernel.chat("tiny", "capital of Japan?", num_ctx=200)  # loads anew
    again = await kernel.chat("tiny", "capital of Japan?", num_ctx=200)
    prompt = await kernel.rendered("tiny", "capital of Japan?", num_ctx=200)
    assert first.text == again.text == "Tokyo."
    for answer in (first, again):
        assert answer.accepted.prompt_tokens == answer.done.prompt_tokens
        assert answer.done.output_tokens == len("Tokyo.") + 1  # the token that ends it counts
        assert answer.done.prompt_ns > 0
        assert answer.done.output_ns > 0
    # Special tokens are one each.
    marks = sum(prompt.count(mark) * (len(mark) - 1) for mark in ("<|im_start|>", "<|im_end|>"))
    assert first.done.prompt_tokens == len(prompt) - marks
    assert (first.done.cached_tokens, again.done.cached_tokens) == (0, first.done.prompt_tokens - 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_ctx": "64"}, 'option "num_ctx" must be of type integer'),
        ({"top_p": True}, 'option "top_p" must be of type float32'),
        ({"stop": "\n"}, 'option "stop" must be of type array'),
        ({"stop": ["a", 1]}, 'option "stop" must be of an array of strings'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"num_thread": -1}, "num_thread"),
        ({"stop": ["x"] * 65}, "stop"),
        ({"stop": ["x" * 1025]}, "stop"),
        ({"repeat_penalty": 0}, "repeat_penalty"),
        ({"temperature": 1e39}, "temperature"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
async def test_an_option_of_a_wrong_type_or_range_is_refused(
    kernel: Any, options: dict[str, Any], words: str
) -> None:
    # The server checks types, the worker what a chain can be made of.
    with pytest.raises((InvalidOptionError, RemoteJobError), match=words) as caught:
        await kernel.raw("tiny", "one", **options)
    code = getattr(caught.value, "remote_code", caught.value.code)
    assert code == InvalidOptionError.code


async def test_an_option_that_nobody_knows_is_told_to_the_log(
    kernel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"num_gqa": 1, "echo_ms": 1, "top_q": None}
    await kernel.raw("tiny", "one two")  # whoever has it loaded anew is warned of that
    answer = await kernel.raw("tiny", "one two", **options)
    assert answer.text.startswith(" three")
    told = [r.getMessage() for r in caplog.records if r.name == "corral_kernel.telling"]
    assert told[-2:] == [
        'a client was warned: option "num_gqa" is ignored: nothing here obeys it any more',
        'a client was warned: option "echo_ms" is unknown and ignored',
    ]
