import io
import re
import threading
from pathlib import Path

import pytest

from corral_cli import wire
from corral_cli.progress import Bar, Progress, Spinner
from corral_cli.prompt import KeptHistory, edit
from corral_cli.pull import show_steps
from corral_cli.terminal import Writer, cell_width, harmless

GIGABYTE = 10**9


class Screen(io.StringIO):
    """Something that claims to be a terminal."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "10")


def test_words_move_to_the_next_line_whole() -> None:
    screen = Screen()
    writer = Writer(wrap=True, out=screen)
    for piece in ("The quick brown fox ju", "mps over ", "the lazy dog and rests"):
        writer.write(piece)
    # Piece by piece, the word that does not fit is taken back from the line's end.
    assert "over \x1b" not in screen.getvalue()
    assert screen.getvalue() == ("The quick brown fox jumps over the \nlazy dog and rests")


def test_a_word_that_was_begun_is_taken_back() -> None:
    screen = Screen()
    Writer(wrap=True, out=screen).write("a" * 30 + " bbbbbbbb")
    assert screen.getvalue() == "a" * 30 + " bbbb\x1b[4D\x1b[K\nbbbbbbbb"


def test_a_word_longer_than_the_line_is_cut() -> None:
    screen = Screen()
    Writer(wrap=True, out=screen).write("x" * 80)
    assert screen.getvalue().split("\n") == ["x" * 35, "x" * 35, "x" * 10]


def test_wide_characters_take_two_columns() -> None:
    screen = Screen()
    Writer(wrap=True, out=screen).write("日" * 20)
    assert screen.getvalue().split("\n") == ["日" * 17, "日" * 3]
    assert cell_width("日本e\u0301") == 5


@pytest.mark.parametrize("wrap", [True, False], ids=["wrap", "nowrap"])
def test_a_pipe_gets_every_character_as_it_is(wrap: object) -> None:
    out = io.StringIO()
    Writer(wrap=bool(wrap), out=out).write("long " * 50 + "\x1b[31m")
    assert out.getvalue() == "long " * 50 + "\x1b[31m"


def test_control_characters_are_dropped_on_a_terminal() -> None:
    assert harmless("a\x1b[2Jb\x07\r\n\tc\x9b") == "a[2Jb\n\tc"


def test_progress_without_a_terminal_is_one_plain_line_a_step() -> None:
    out = io.StringIO()
    with Progress(out) as progress:
        spinner = progress.step("copying file")
        spinner.text = "copying file 42%"
        progress.bar("pulling 6a07", 100).advance(100)
        progress.step("")
    assert out.getvalue() == "copying file\npulling 6a07\n"


def test_progress_on_a_terminal_ends_behind_its_last_state() -> None:
    screen = Screen()
    with Progress(screen) as progress:
        spinner = progress.step("copying file")
        spinner.text = "copying file 100%"
        progress.step("success")
    assert screen.shown().endswith("\rcopying file 100% \n\rsuccess \n")
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h")


def test_fleeting_progress_leaves_nothing() -> None:
    screen = Screen()
    with Progress(screen, fleeting=True) as progress:
        progress.step("loading")
    assert screen.shown() in ("", "\r")


def test_more_steps_than_lines_show_the_newest() -> None:
    screen = Screen()
    with Progress(screen) as progress:
        for number in range(30):
            progress.step(f"step {number}")
    assert screen.shown().splitlines()[-1].strip() == "step 29"
    assert "step 20\n" not in screen.shown()


class Clock:
    """Tells the time that it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def advanced(clock: Clock, *moments: tuple[float, int], label: str = "pulling 6a07") -> Bar:
    """A bar of 4 GB at the last of some moments: seconds, and bytes that are done by then."""
    bar = Bar(label, 4 * GIGABYTE, clock)
    for clock.now, completed in moments:
        bar.advance(completed)
    return bar


def test_a_bar_tells_rate_and_time_left(clock: Clock) -> None:
    bar = advanced(clock, (0, 0), (10, GIGABYTE))

    line = bar.draw(100, "")

    assert line.startswith("pulling 6a07:  25% ▕███")
    assert line.endswith("▏ 1 GB/4 GB   100 MB/s   30s")
    assert cell_width(line) < 100
    clock.now = 40.0
    bar.advance(4 * GIGABYTE)
    assert bar.draw(60, "").endswith("█▏ 4 GB")
    assert cell_width(bar.draw(20, "")) < 20


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_a_bar_keeps_its_place_while_numbers_grow(clock: Clock, width: int) -> None:
    moments = [
        (0.0, 0),
        (1.0, 9_000_000),
        (2.0, 999_000_000),
        (3.0, 3_900_000_000),
        (4.0, 4 * 10**9),
    ]
    ends = set()
    for number in range(1, len(moments) + 1):
        line = advanced(clock, *moments[:number]).draw(width, "")
        assert cell_width(line) < width
        ends.add(line.index("▏"))
    assert len(ends) == 1


@pytest.mark.parametrize(
    ("width", "end"),
    [
        (80, "▏ 1 GB/4 GB   100 MB/s   30s"),
        (60, "▏ 1 GB/4 GB   30s"),
        (50, "▏ 1 GB/4 GB"),
        (30, "pulling 6a07:  25% 1 GB/4 GB"),
        (20, "pulling 6a07:  25%…"),
    ],
)
def test_what_has_no_room_goes_in_turn(clock: Clock, width: int, end: str) -> None:
    line = advanced(clock, (0, 0), (10, GIGABYTE)).draw(width, "")
    assert line.endswith(end)
    assert cell_width(line) < width


def test_a_long_label_is_cut_and_the_numbers_stay(clock: Clock) -> None:
    bar = advanced(clock, (0, 0), (10, GIGABYTE), label="reading file " + "日本" * 40)
    line = bar.draw(80, "")
    assert re.fullmatch(r"reading file 日.*…:  25% ▕█+ +▏ 1 GB/4 GB", line)
    assert cell_width(line) < 80
    assert cell_width(Spinner("日本" * 40).draw(40, "⠋")) < 40


def test_what_stalls_says_so(clock: Clock) -> None:
    bar = advanced(clock, *((moment, moment * 100_000_000) for moment in range(10)))
    assert bar.draw(80, "").endswith("900 MB/4 GB   100 MB/s   31s")
    clock.now = 90.0
    assert bar.draw(80, "").endswith("900 MB/4 GB   10 MB/s   5m10s")
    clock.now = 200_000.0
    assert bar.draw(80, "").endswith("   99h+")


def test_bars_grow_from_any_thread(clock: Clock) -> None:
    bar = Bar("reading", 4000, clock)
    threads = [threading.Thread(target=lambda: [bar.add(1) for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bar.draw(80, "").endswith("▏ 4 KB")


@pytest.mark.parametrize(
    "after",
    [
        wire.Progress(status="verifying conversion"),
        wire.Progress(status="quantizing", digest="0", total=100, completed=1),
    ],
    ids=["another step", "other work on it"],
)
def test_a_bar_is_full_once_its_step_is_over(after: wire.Progress) -> None:
    screen = Screen()
    lines = [wire.Progress(status="converting", digest="0", total=100, completed=97), after]
    with Progress(screen) as progress:
        assert not show_steps(lines, progress)
    assert "\rconverting: 100% ▕██████▏ 100 B\n" in screen.shown()


@pytest.mark.parametrize("out", [Screen(), io.StringIO()], ids=["terminal", "pipe"])
def test_a_step_that_turns_out_to_have_a_length_is_one_line(out: io.StringIO) -> None:
    lines = [
        wire.Progress(status="converting model"),
        wire.Progress(status="converting model", digest="0", total=100, completed=97),
        wire.Progress(status="success"),
    ]
    with Progress(out) as progress:
        assert show_steps(lines, progress)
    *_, last = out.getvalue().split("\x1b[?2026h")
    assert last.count("converting model") == 1


def test_a_bar_whose_step_goes_on_is_left_as_it_is() -> None:
    screen = Screen()
    lines = [
        wire.Progress(status=f"pulling {digest}", digest=digest, total=100, completed=50)
        for digest in ("a", "b", "a")
    ]
    with Progress(screen) as progress:
        show_steps([*lines, wire.Progress()], progress)
    *_, last = screen.getvalue().split("\x1b[?2026h")
    assert last.count(":  50% ") == 2


def test_a_redraw_wipes_nothing_before_it_is_drawn_anew() -> None:
    screen = Screen()
    with Progress(screen) as progress:
        for text in ("one", "two"):
            progress.step(text)
    *_, last = screen.getvalue().split("\x1b[?2026h")
    assert "\x1b[J" in last
    assert last.index("\x1b[J") > last.index("two")


def test_history_keeps_the_last_hundred_lines(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "history"
    history = KeptHistory(path, keep=True)
    for number in range(105):
        history.append_string(f"line {number}\nmore")

    again = list(KeptHistory(path, keep=True).load_history_strings())

    assert len(again) == 100
    assert again[0] == "line 104\nmore"


def test_history_skips_what_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b'"good"\nnonsense\n\xff\n12\n')
    assert list(KeptHistory(path, keep=True).load_history_strings()) == ["good"]


def test_history_that_cannot_be_written_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    history = KeptHistory(tmp_path / "file" / "history", keep=True)
    history.append_string("line")
    assert not history.keep


def test_an_editor_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_EDITOR", "no-such-editor --wait")
    assert edit("text") == "text"
    monkeypatch.setenv("CORRAL_EDITOR", "false")
    assert edit("text") == "text"
