"""Answers held to JSON or a schema: valid, forced where nothing else may come, cut by limits."""

import json
from typing import Any

import pytest

from corral_kernel.errors import InvalidFormatError

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOT = {"temperature": 1.5, "top_k": 0, "top_p": 1.0}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"enum": ["tiny", "huge"]},
        "size": {"type": "integer", "minimum": 0, "maximum": 9},
        "kind": {"const": "a long word that is forced: \u20ac"},
    },
    "required": ["name", "size", "kind"],
}


def spec(schema: Any) -> bytes:
    return json.dumps(schema).encode()


async def test_json_is_what_the_model_would_say_anyway(kernel: Any) -> None:
    free = await kernel.chat("tiny", "give me json")
    held = await kernel.chat("tiny", "give me json", format=b'"json"')
    assert json.loads(held.text) == json.loads(free.text) == {"name": "tiny", "size": 1}
    assert held.reason == "stop"


@pytest.mark.parametrize("seed", range(6))
async def test_a_hot_model_of_bytes_keeps_to_a_schema(kernel: Any, seed: int) -> None:
    answer = await kernel.raw(
        "tiny", "who are you?", format=spec(PERSON), seed=seed, num_predict=200, **HOT
    )
    said = json.loads(answer.text)
    assert list(said) == ["name", "size", "kind"]
    assert said["name"] in ("tiny", "huge")
    assert said["size"] in range(10)
    assert said["kind"] == "a long word that is forced: \u20ac"
    assert answer.reason == "stop"


async def test_forced_tokens_take_no_step(kernel: Any) -> None:
    answer = await kernel.raw("tiny", "x", format=spec(PERSON), num_predict=200)
    done = answer.done
    assert len(answer.text.encode()) == done.output_tokens  # a byte each, and no token at the end
    assert done.forced_tokens > done.output_tokens * 0.8
    assert done.steps == done.output_tokens - done.forced_tokens
    assert done.prompt_tokens == 1  # what was forced at once is part of the answer


async def test_forced_tokens_have_a_probability_of_1(kernel: Any) -> None:
    answer = await kernel.raw("tiny", "x", format=spec(PERSON), num_predict=200, logprobs=1)
    certain = [logprob for logprob in answer.logprobs if logprob.logprob == 0 and not logprob.top]
    assert len(certain) == answer.done.forced_tokens
    assert len(answer.logprobs) == answer.done.output_tokens
    assert b"".join(logprob.bytes for logprob in answer.logprobs) == answer.text.encode()


async def test_an_answer_that_is_forced_whole_needs_one_step(kernel: Any) -> None:
    answer = await kernel.raw("tiny", "x", format=spec({"const": "always"}), num_predict=200)
    assert (json.loads(answer.text), answer.reason) == ("always", "stop")
    assert (answer.done.steps, answer.done.forced_tokens) == (1, len('"always"'))


@pytest.mark.parametrize("count", [0, 1, 5, 30])
async def test_a_limit_ends_an_answer_within_its_format(kernel: Any, count: int) -> None:
    whole = await kernel.raw("tiny", "x", format=spec(PERSON), num_predict=200)
    answer = await kernel.raw("tiny", "x", format=spec(PERSON), num_predict=count)
    assert (answer.text, answer.reason) == (whole.text[:count], "length")
    assert answer.done.output_tokens == count


async def test_a_stop_string_may_end_within_forced_tokens(kernel: Any) -> None:
    answer = await kernel.raw("tiny", "x", format=spec(PERSON), stop=["word"], num_predict=200)
    assert answer.text.endswith('"kind": "a long ')
    assert answer.reason == "stop"


@pytest.mark.parametrize("shift", [True, False])
async def test_forced_tokens_are_fed_through_a_full_window(kernel: Any, *, shift: bool) -> None:
    long = {"type": "array", "prefixItems": [{"const": "xy" * 75}, {"enum": ["yes", "no"]}]}
    options = {"num_ctx": 64, "num_predict": 300, "shift": shift}
    long |= {"minItems": 2, "maxItems": 2}
    answer = await kernel.raw("tiny", "y" * 30, format=spec(long), **options)
    if shift:
        assert json.loads(answer.text)[0] == "xy" * 75
        assert answer.reason == "stop"
    else:
        assert answer.reason == "length"
        assert answer.done.output_tokens == 64 - 30 + 1


async def test_drafts_keep_to_a_format(kernel: Any) -> None:
    words = {"type": "array", "items": {"enum": ["one two three", "one two four"]}, "minItems": 6}
    options = {"num_predict": 250, "num_ctx": 256, "temperature": 1.0, "seed": 3}
    plain = await kernel.raw("tiny", "x", format=spec({**words, "maxItems": 6}), **options)
    drafted = await kernel.raw(
        "tiny", "x", format=spec({**words, "maxItems": 6}), **options, draft_num_predict=6
    )
    assert drafted.text == plain.text
    assert len(json.loads(plain.text)) == 6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b'"xml"', 'invalid format: "xml"'),
        (b"7", "invalid format: 7"),
        (b'{"type": "object", "not": {}}', "not"),
        (b'{"type": "potato"}', "gives the format 'potato'"),
    ],
    ids=["a word", "a number", "a keyword that is not enforced", "a type that nobody has"],
)
async def test_a_format_that_cannot_be_held_to_is_refused(
    kernel: Any, given: bytes, words: str
) -> None:
    with pytest.raises(InvalidFormatError, match=words):
        await kernel.raw("tiny", "x", format=given)
