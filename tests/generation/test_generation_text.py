"""Stop strings, UTF-8 and repetition, on a backend that says its prompt again byte by byte."""

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def say(kernel: Any, text: str, **more: Any) -> Any:
    return await kernel.raw("tiny", text, **{"backend": "echo", "num_predict": -1, **more})


# -------------------------------------------------------------------------------------- stops


@pytest.mark.parametrize(
    ("text", "stops", "given"),
    [
        ("one two three", [" two"], "one"),
        ("one two three", ["two", "one t"], ""),
        ("xabcd", ["abc", "bcd"], "x"),
        ("xabcd", ["bcd", "abcd"], "x"),
        ("aab", ["ab"], "a"),
        ("aaab", ["aab"], "a"),
        ("stop", ["s"], ""),
        ("naïve", ["ï"], "na"),
        ("a\u20acb", ["\u20ac"], "a"),
        ("a\nb", ["\r\n", "\n"], "a"),
        ("abc", ["", "c"], "ab"),
    ],
    ids=[
        "across tokens",
        "the first to be complete",
        "overlapping",
        "one within the other",
        "begun twice",
        "begun three times",
        "at the first token",
        "two bytes",
        "three bytes",
        "one of two",
        "an empty one is none",
    ],
)
async def test_a_stop_string_ends_the_answer_and_never_shows(
    kernel: Any, text: str, stops: list[str], given: str
) -> None:
    answer = await say(kernel, text, stop=stops)
    assert (answer.text, answer.reason) == (given, "stop")
    assert answer.done.output_tokens <= len(text.encode())


@pytest.mark.parametrize(
    ("text", "stops"),
    [("one tw", [" two"]), ("ababab", ["abac"]), ("a", ["ab", "ac"]), ("END of EN", ["END!"])],
)
async def test_text_that_only_began_like_a_stop_string_is_given(
    kernel: Any, text: str, stops: list[str]
) -> None:
    answer = await say(kernel, text, stop=stops)
    assert (answer.text, answer.reason) == (text, "stop")
    assert answer.done.output_tokens == len(text) + 1  # it ended by itself


async def test_text_held_back_is_given_when_the_limit_ends_the_answer(kernel: Any) -> None:
    answer = await say(kernel, "one two", stop=["e two!"], num_predict=5)
    assert (answer.text, answer.reason) == ("one t", "length")


async def test_text_is_held_back_no_longer_than_needed(kernel: Any) -> None:
    answer = await say(kernel, "xy abd", stop=["abc"])
    assert [piece.content for piece in answer.pieces] == ["x", "y", " ", "abd"]


async def test_a_requests_stops_replace_the_models(kernel: Any) -> None:
    kernel.create("stops", base="tiny", parameters={"stop": ["o", "e"], "backend": "echo"})
    for stops, given in (({}, ""), ({"stop": ["t"]}, "one "), ({"stop": []}, "one two")):
        answer = await kernel.raw("stops", "one two", **stops)
        assert answer.text == given


async def test_what_a_stop_string_cut_off_is_no_part_of_the_context(kernel: Any) -> None:
    kernel.create("echo", base="plain", parameters={"backend": "echo"})
    answer = await kernel.generate("echo", "one two", stop=[" tw"])
    assert bytes(i for i in answer.done.token_ids if i < 256) == b"one twoone"


# -------------------------------------------------------------------------------------- UTF-8


async def test_a_character_comes_whole_whatever_the_tokens(kernel: Any) -> None:
    text = "h\u00e9, 3 \u20ac \U0001f600, \u4f60\u597d"
    answer = await say(kernel, text)
    assert answer.text == text
    assert [piece.content for piece in answer.pieces] == list(text)


async def test_half_a_character_at_the_end_is_left_out(kernel: Any) -> None:
    answer = await say(kernel, "ok \U0001f600", num_predict=5)
    assert (answer.text, answer.done.output_tokens) == ("ok ", 5)


async def test_bytes_that_are_no_text_become_replacement_characters(kernel: Any) -> None:
    """A hot model of bytes writes all of them."""
    hot = {"temperature": 50.0, "top_k": 0, "top_p": 1.0, "seed": 11, "num_predict": 200}
    answer = await kernel.generate("endless-tiny", "one", **hot)
    ids = answer.done.token_ids[answer.done.prompt_tokens :]
    whole = bytes(i for i in ids if 0 < i < 256).decode("utf-8", "replace")
    assert whole.count("\ufffd") > 50
    assert whole.startswith(answer.text)
    assert whole.removeprefix(answer.text) in ("", "\ufffd")  # half a character at the end


# --------------------------------------------------------------------------------- repetition


@pytest.mark.parametrize(
    "text", ["a" * 60, "x" + "a" * 60, " \n\t" * 20 + "ab", "\U0001f600" * 40], ids=ascii
)
async def test_the_32nd_equal_piece_ends_a_generation(kernel: Any, text: str) -> None:
    answer = await say(kernel, text)
    start = 1 if text[0] == "x" else 0
    assert (answer.text, answer.reason) == (text[: start + 31], "repeat")


async def test_31_equal_pieces_are_fine(kernel: Any) -> None:
    answer = await say(kernel, "a" * 31 + "b" + "a" * 31)
    assert (len(answer.text), answer.reason) == (63, "stop")


async def test_a_chat_may_repeat_itself(kernel: Any) -> None:
    answer = await kernel.chat("tiny", "a" * 60, backend="echo", num_predict=-1)
    assert "a" * 60 in answer.text
    assert answer.reason == "stop"


async def test_pieces_held_back_are_no_repetition(kernel: Any) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    answer = await say(kernel, letters + "?", stop=[letters + "!"])
    assert (answer.text, answer.reason) == (letters + "?", "stop")


async def test_jobs_of_different_length_do_not_mix(kernel: Any) -> None:
    texts = [f"{number} " * (number + 1) for number in range(8)]
    answers = await asyncio.gather(*(say(kernel, text) for text in texts))
    assert [answer.text for answer in answers] == texts
