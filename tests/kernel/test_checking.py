"""What native code is spared: texts that have no bytes."""

import pytest

from corral_kernel.checking import sound_text


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("", ""),
        ("plain\0text", "plain\0text"),
        ("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"),
        ("\ud83d\ude00", "\U0001f600"),
        ("a\ud83db", "a\ufffdb"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\U0001f600", "\ufffd\U0001f600"),
    ],
    ids=["empty", "plain", "beyond", "a pair", "half of one", "turned round", "half and whole"],
)
def test_halves_of_characters_become_whole_ones_or_are_replaced(text: str, sound: str) -> None:
    assert sound_text(text) == sound
    assert sound_text(text).encode().decode() == sound
