import io
import re
from pathlib import Path

import pytest

from corral_cli.progress import Bar, Progress
from corral_cli.prompt import KeptHistory, edit
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


def test_a_bar_tells_rate_and_time_left() -> None:
    bar = Bar("pulling 6a07", 4 * GIGABYTE)
    bar.advance(0, now=0.0)
    bar.advance(GIGABYTE, now=10.0)

    line = bar.draw(100, "")

    assert line.startswith("pulling 6a07:  25% ▕███")
    assert line.endswith("▏ 1 GB/4 GB   100 MB/s   30s")
    assert cell_width(line) < 100
    bar.advance(4 * GIGABYTE, now=40.0)
    assert bar.draw(60, "").endswith("█▏ 4 GB")
    assert cell_width(bar.draw(20, "")) < 20


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
