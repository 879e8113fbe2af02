"""The constraint by itself, as Corral runs it."""

from typing import Any

from corral_kernel.testing import ConstraintSuite, PieceTokenizer

from corral_alphabet import AlphabetType
from corral_alphabet.constraint import AlphabetConstraint

TOKENIZER = PieceTokenizer()
END_ID = 257


class TestAlphabet(ConstraintSuite):
    """What Corral asks of every constraint."""

    kind = AlphabetType()
    bad_specs = (
        {"type": "alphabet"},
        {"type": "alphabet", "characters": ""},
        {"type": "alphabet", "characters": "é"},
        {"type": "alphabet", "characters": "ab", "length": 0},
        {"type": "alphabet", "characters": "ab", "colour": "red"},
    )

    def finished_text(self, spec: Any, text: bytes) -> None:
        assert set(text) <= set(spec["characters"].encode())
        assert 0 < len(text) <= spec.get("length", len(text))


def constraint(characters: bytes, length: int) -> AlphabetConstraint:
    return AlphabetConstraint(characters, length, TOKENIZER, len(TOKENIZER.pieces))


def test_an_answer_has_at_least_one_character() -> None:
    empty = constraint(b"ab", 3)
    assert not empty.accept(END_ID)
    assert empty.accept(ord("a"))
    assert empty.accept(END_ID)


def test_it_is_finished_when_it_has_its_length() -> None:
    full = constraint(b"ab", 2)
    (both,) = TOKENIZER.encode("ab", special=False)
    assert full.accept(both)
    assert full.finished()
    assert not full.accept(ord("a"))


def test_a_token_that_is_too_long_is_refused() -> None:
    short = constraint(b"ab", 1)
    (both,) = TOKENIZER.encode("ab", special=False)
    assert not short.accept(both)
    assert short.allows([ord("a"), ord("b")]) == 1
