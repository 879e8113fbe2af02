import math

import pytest

from corral_kernel.gotext import (
    format_number,
    nearest_float32,
    parse_bool,
    parse_float32,
    parse_int64,
    quote,
)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("tab\tline\n", '"tab\\tline\\n"'),
        ("\x01\x7f", '"\\x01\\x7f"'),
        ("\u200b\U000e0001", '"\\u200b\\U000e0001"'),
        ("größe 日本", '"größe 日本"'),
    ],
)
def test_texts_are_quoted(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (4096, "4096"),
        (131072, "131072"),
        (999999, "999999"),
        (1e6, "1e+06"),
        (1048576, "1.048576e+06"),
        (134515008, "1.34515008e+08"),
        (-1234567, "-1.234567e+06"),
        (0.7, "0.7"),
        (0.0001, "0.0001"),
        (0.00005, "5e-05"),
        (1e-5, "1e-05"),
        (1e100, "1e+100"),
        (-0.5, "-0.5"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_printed_with_an_exponent_from_a_million_up(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.7, 0.7),
        (1 / 3, 0.33333334),
        (16777217.0, 16777216.0),
        (3.4028234663852886e38, 3.4028235e38),
        (1e-45, 1e-45),
        (-0.1, -0.1),
        (math.inf, math.inf),
    ],
)
def test_a_float_of_32_bits_is_its_shortest_decimal(value: float, rounded: float) -> None:
    assert nearest_float32(value) == rounded


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), (".5", 0.5), ("5.", 5.0), ("1e-3", 0.001), ("+Inf", math.inf), ("0x1p-2", 0.25)],
)
def test_floats_are_read_in_every_spelling(text: str, value: float) -> None:
    assert parse_float32(text) == value


@pytest.mark.parametrize("text", ["", "abc", "1_000", " 1", "1e39", "0x1", "\u0663", "1,5"])
def test_what_is_no_float_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_float32(text)


@pytest.mark.parametrize(
    ("text", "value"), [("42", 42), ("-1", -1), ("+7", 7), ("9223372036854775807", 2**63 - 1)]
)
def test_integers_are_read(text: str, value: int) -> None:
    assert parse_int64(text) == value


@pytest.mark.parametrize("text", ["", "4k", "1.0", "1_0", "9223372036854775808", "\u0663"])
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_int64(text)


def test_truth_values_have_six_spellings_each() -> None:
    assert all(parse_bool(text) for text in ("1", "t", "T", "TRUE", "true", "True"))
    assert not any(parse_bool(text) for text in ("0", "f", "F", "FALSE", "false", "False"))
    with pytest.raises(ValueError, match="yes"):
        parse_bool("yes")
