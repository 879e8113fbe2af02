from datetime import UTC, datetime, timedelta

import pytest

from corral_cli import human, table
from corral_cli.listing import processor, until

NOW = datetime(2026, 8, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1000, "1 KB"),
        (1999, "2.0 KB"),
        (9_940_000, "9.9 MB"),
        (10_900_000, "10 MB"),
        (4_661_224_676, "4.7 GB"),
        (2_000_000_000, "2 GB"),
        (12_345_678_901, "12 GB"),
        (1_500_000_000_000, "1.5 TB"),
    ],
)
def test_sizes_have_decimal_units(size_bytes: int, text: str) -> None:
    assert human.size(size_bytes) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (999, "999"),
        (23_456, "23K"),
        (134_515_008, "134.52M"),
        (135_000_000, "135M"),
        (3_212_749_888, "3.2B"),
        (7_000_000_000, "7B"),
    ],
)
def test_counts_are_short(number: int, text: str) -> None:
    assert human.count(number) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=0.5), "Less than a second ago"),
        (timedelta(seconds=1), "1 second ago"),
        (timedelta(seconds=59), "59 seconds ago"),
        (timedelta(seconds=60), "About a minute ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(minutes=60), "About an hour ago"),
        (timedelta(minutes=100), "2 hours ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(hours=48), "2 days ago"),
        (timedelta(days=13), "13 days ago"),
        (timedelta(days=14), "2 weeks ago"),
        (timedelta(days=59), "8 weeks ago"),
        (timedelta(days=60), "2 months ago"),
        (timedelta(days=729), "24 months ago"),
        (timedelta(days=731), "2 years ago"),
        (timedelta(seconds=-299.5), "4 minutes from now"),
        (timedelta(days=-365 * 20), "20 years from now"),
        (timedelta(days=-365 * 292), "Forever"),
    ],
)
def test_times_are_told_from_now(ago: timedelta, text: str) -> None:
    assert human.relative(NOW - ago, NOW) == text


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "", "soon"])
def test_the_zero_time_never_comes(text: str) -> None:
    assert human.relative(human.parse_time(text)) == "Never"


def test_times_have_nine_digits_and_zones() -> None:
    assert human.parse_time("2026-08-21T14:00:00.123456789+02:00") == datetime(
        2026, 8, 21, 12, 0, 0, 123456, tzinfo=UTC
    )
    assert human.parse_time("2026-08-21T12:00:00Z") == NOW


def test_a_model_past_its_time_is_stopping() -> None:
    assert until("2026-08-21T11:59:59Z", NOW) == "Stopping..."
    assert until("2026-08-21T12:04:59Z", NOW) == "4 minutes from now"
    assert until("2318-12-01T12:00:00Z", NOW) == "Forever"
    assert until("0001-01-01T00:00:00Z", NOW) == "Never"


@pytest.mark.parametrize(
    ("size", "size_vram", "text"),
    [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (100, 75, "25%/75% CPU/GPU"),
        (1000, 995, "1%/99% CPU/GPU"),
        (100, 101, "Unknown"),
        (0, 1, "Unknown"),
    ],
)
def test_the_processor_column_tells_where_a_model_is(size: int, size_vram: int, text: str) -> None:
    assert processor(size, size_vram) == text


def test_table_columns_are_four_apart_and_padded_at_the_end() -> None:
    rows = [("NAME", "ID"), ("llama3.2:latest", "a80c")]
    assert table.render(rows) == "NAME               ID      \nllama3.2:latest    a80c    \n"


def test_on_a_terminal_nothing_is_padded_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert table.render([("A", "long"), ("b", "")]) == "A    long\nb\n"


def test_a_cell_cannot_steer_the_terminal() -> None:
    assert table.render([("a\x1b[2Jb\n",)]) == "a[2Jb    \n"


def test_a_terminal_gets_of_two_long_cells_an_equal_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "59")
    rows = [("NAME", "FIELDS", "TEXT"), ("a", "x" * 90, "y" * 50)]
    header, row = table.render(rows, cut=True).splitlines()
    assert header == f"NAME    {'FIELDS':<27}TEXT"
    assert row == f"a       {'x' * 22}…    {'y' * 23}…"
    assert len(row) == 59


@pytest.mark.parametrize(
    ("columns", "last"), [(40, "x" * 34 + "…"), (10, "x" * 19 + "…")], ids=["fits", "narrow"]
)
def test_a_terminal_gets_of_a_long_last_cell_what_its_row_has_room_for(
    columns: int, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("A", "B"), ("a", "x" * 90)]
    assert "x" * 90 in table.render(rows, cut=True)  # a file or a pipe gets all of it
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert table.render(rows, cut=True) == f"A    B\na    {last}\n"
    assert "x" * 90 in table.render(rows)


PROSE = [("NAME", "TYPE", "WHAT"), ("a-name", "a kind", "words that go on for a while yet")]
FLOWING = {
    "all fits": (
        52,
        ["NAME      TYPE      WHAT", "a-name    a kind    words that go on for a while yet"],
    ),
    "beside the others": (
        48,
        [
            "NAME      TYPE      WHAT",
            "a-name    a kind    words that go on for a while",
            "                    yet",
        ],
    ),
    "below them": (
        22,
        [
            "NAME      TYPE",
            "    WHAT",
            "a-name    a kind",
            "    words that go on",
            "    for a while yet",
        ],
    ),
    "several below": (
        14,
        [
            "NAME",
            "    TYPE: WHAT",
            "a-name",
            "    a kind:",
            "    words that",
            "    go on for",
            "    a while",
            "    yet",
        ],
    ),
}


@pytest.mark.parametrize(("columns", "text"), FLOWING.values(), ids=FLOWING)
def test_prose_that_has_no_room_goes_on_below(
    monkeypatch: pytest.MonkeyPatch, columns: int, text: list[str]
) -> None:
    assert table.flowing(PROSE) == table.render(PROSE)  # a file or a pipe gets all of it
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert table.flowing(PROSE).splitlines() == text
    assert max(map(len, text)) <= columns


def test_what_goes_below_an_indented_row_is_indented_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    assert table.flowing([("", "name", "a few words")]) == "    name\n        a few words\n"
