import base64
import random

import pytest

from corral_api.wire.image_data import Base64Error, decode_base64


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("YQ==", b"a"),
        ("YWI=", b"ab"),
        ("YWJj", b"abc"),
        ("YR==", b"a"),  # bits beyond the last byte do not matter
        ("Y\r\nW\nJj\n", b"abc"),
        ("YQ\n=\n=\n", b"a"),
        ("\n", b""),
    ],
)
def test_standard_base64_is_decoded_and_newlines_are_skipped(text: str, data: bytes) -> None:
    assert decode_base64(text) == data


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("data:image/png;base64,YQ==", 4),
        ("YQ", 0),
        ("YWJjYQ", 4),
        ("YWJ", 0),
        ("Y", 0),
        ("=", 0),
        ("Y===", 1),
        ("YQ=", 3),
        ("YQ=x", 2),
        ("YQ==YQ==", 4),
        ("YWI=x", 4),
        ("YW-_", 2),
        ("YW Jj", 2),
        ("YWé", 2),
    ],
)
def test_the_byte_that_is_no_base64_is_named(text: str, offset: int) -> None:
    with pytest.raises(Base64Error, match=f"^illegal base64 data at input byte {offset}$"):
        decode_base64(text)


def test_a_large_image_with_line_ends_keeps_every_byte() -> None:
    data = random.Random(1).randbytes(3_000_000)
    assert decode_base64(base64.encodebytes(data).decode()) == data
