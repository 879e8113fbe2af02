import pytest

from corral_kernel.durations import (
    FOREVER,
    HOUR,
    MILLISECOND,
    MINUTE,
    SECOND,
    InvalidDurationError,
    format_duration,
    keep_alive_from_json,
    parse_duration,
    parse_keep_alive,
)
from corral_kernel.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("+0", 0),
        ("5m", 5 * MINUTE),
        ("1.5h", 90 * MINUTE),
        ("-1.5h", -90 * MINUTE),
        ("+10s", 10 * SECOND),
        ("2h45m30.5s", 2 * HOUR + 45 * MINUTE + 30 * SECOND + 500 * MILLISECOND),
        (".5s", 500 * MILLISECOND),
        ("1.s", SECOND),
        ("10ns", 10),
        ("10us", 10_000),
        ("10\u00b5s", 10_000),
        ("10\u03bcs", 10_000),
        ("0.100000000000000000000h", 6 * MINUTE),
        ("9223372036854775807ns", FOREVER),
        ("-9223372036854775808ns", -(2**63)),
    ],
)
def test_a_go_duration_is_read_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        (".", 'time: invalid duration "."'),
        ("s", 'time: invalid duration "s"'),
        (".s", 'time: invalid duration ".s"'),
        ("5 m", 'time: unknown unit " m" in duration "5 m"'),
        (" 5m", 'time: invalid duration " 5m"'),
        ("10", 'time: missing unit in duration "10"'),
        ("1h10", 'time: missing unit in duration "1h10"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ('5"', 'time: unknown unit "\\"" in duration "5\\""'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("3000000h", 'time: invalid duration "3000000h"'),
    ],
)
def test_what_is_no_duration_is_refused_in_the_words_of_go(text: str, message: str) -> None:
    with pytest.raises(InvalidDurationError) as caught:
        parse_duration(text)
    assert str(caught.value) == message
    assert isinstance(caught.value, InvalidRequestError)


def test_a_huge_text_gives_a_short_error() -> None:
    with pytest.raises(InvalidDurationError) as caught:
        parse_duration("1" * 1_000_000 + "s")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("5m", 5 * MINUTE),
        ("300", 300 * SECOND),
        ("0", 0),
        ("0s", 0),
        ("-1", FOREVER),
        ("-1s", FOREVER),
        ("99999999999999", FOREVER),
    ],
)
def test_a_setting_may_be_a_duration_or_whole_seconds(text: str, nanoseconds: int) -> None:
    assert parse_keep_alive(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1.5", "ever", "5 m"])
def test_a_setting_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(InvalidDurationError):
        parse_keep_alive(text)


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        (300, 300 * SECOND),
        (0.5, 500 * MILLISECOND),
        (0, 0),
        (-1, FOREVER),
        (-0.5, FOREVER),
        (1e300, FOREVER),
        (float("nan"), FOREVER),
        ("10m", 10 * MINUTE),
        ("0", 0),
        ("-1s", FOREVER),
    ],
)
def test_a_request_gives_seconds_as_a_number_or_a_duration_as_text(
    value: float | str, nanoseconds: int
) -> None:
    assert keep_alive_from_json(value) == nanoseconds


def test_a_request_may_not_leave_out_the_unit_of_a_text() -> None:
    with pytest.raises(InvalidDurationError, match="missing unit"):
        keep_alive_from_json("10")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1\u00b5s"),
        (12_500_000, "12.5ms"),
        (1_234_567_000, "1.234567s"),
        (1_520_000_000, "1.52s"),
        (5 * MINUTE, "5m0s"),
        (HOUR, "1h0m0s"),
        (2 * HOUR + 3 * MINUTE + 4 * SECOND + 5, "2h3m4.000000005s"),
        (-1_500 * MILLISECOND, "-1.5s"),
        (FOREVER, "2562047h47m16.854775807s"),
    ],
)
def test_a_duration_is_printed_as_go_does(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text
    assert parse_duration(text) == nanoseconds
