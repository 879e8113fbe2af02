"""Text and log-probabilities of tokens that end within a stop string or a character."""

from collections.abc import Sequence

import pytest

from corral_kernel.frames import TokenLogprob
from corral_kernel.worker.output import Output


def run(pieces: Sequence[bytes], *stops: str) -> tuple[list[str], list[list[str]], Output]:
    """Text and tokens' names as they are given, step by step."""
    output, texts, names = Output(stops), [], []
    for piece in pieces:
        texts.append(output.feed(piece, TokenLogprob(piece.decode("latin-1"), piece, -1.0)))
        names.append([logprob.token for logprob in output.logprobs()])
        if output.stopped:
            break
    return texts, names, output


@pytest.mark.parametrize(
    ("pieces", "stops", "texts", "names"),
    [
        ([b"foo<st", b"op>bar"], ["<stop>"], ["foo", ""], [["foo<st"], []]),
        ([b"a", b"<", b"b"], ["<stop>"], ["a", "", "<b"], [["a"], [], ["<", "b"]]),
        ([b"x END", b"S y"], ["END", "ENDS"], ["x "], [["x END"]]),
        ([b"\xc3", b"\xa9"], [], ["", "\xe9"], [[], ["\xc3", "\xa9"]]),
        ([b"\xc3", b"x"], [], ["", "\ufffdx"], [[], ["\xc3", "x"]]),
        ([b"", b"a"], [], ["", "a"], [[""], ["a"]]),
        ([b"a<", b"b<", b"s>"], ["<s>"], ["a", "<b", ""], [["a<"], ["b<"], []]),
    ],
    ids=[
        "stop within two tokens",
        "held and let go",
        "found whole in a token",
        "a character of two tokens",
        "half a character, then another",
        "a token without text",
        "a token that ends one and begins the next",
    ],
)
def test_tokens_come_with_the_text_that_they_are_of(
    pieces: list[bytes], stops: list[str], texts: list[str], names: list[list[str]]
) -> None:
    given, named, _ = run(pieces, *stops)
    assert (given, named) == (texts, names)


def test_at_the_end_all_that_was_held_is_given() -> None:
    _, _, output = run([b"a", b"<st", b"\xe2\x82"], "<stop>")
    assert output.end() == "<st"
    assert [logprob.token for logprob in output.logprobs()] == ["<st", "\xe2\x82"]
    assert not output.stopped
