import importlib
import subprocess
import sys

import pytest

from corral_cli.commands import COMMANDS
from corral_cli.errors import UsageError
from corral_cli.main import main
from corral_cli.parser import Flag, parse

FLAGS = (
    Flag("verbose", "more", short="v"),
    Flag("file", "a file", kind="string", short="f"),
    Flag("think", "level", kind="string", bare="true"),
    Flag("dimensions", "length", kind="int"),
)


@pytest.mark.parametrize(
    ("argv", "args", "flags"),
    [
        ([], (), {}),
        (["a", "b"], ("a", "b"), {}),
        (["a", "--verbose", "b"], ("a", "b"), {"verbose": True}),
        (["--verbose=false"], (), {"verbose": False}),
        (["--file", "x", "a"], ("a",), {"file": "x"}),
        (["--file=x=y"], (), {"file": "x=y"}),
        (["-f", "x"], (), {"file": "x"}),
        (["-fx"], (), {"file": "x"}),
        (["-f=x"], (), {"file": "x"}),
        (["-vfx"], (), {"verbose": True, "file": "x"}),
        (["--think", "high"], ("high",), {"think": "true"}),
        (["--think=high"], (), {"think": "high"}),
        (["--dimensions", "-3"], (), {"dimensions": -3}),
        (["--", "--verbose", "-x"], ("--verbose", "-x"), {}),
        (["-"], ("-",), {}),
    ],
)
def test_flags_and_arguments_are_told_apart(
    argv: list[str], args: tuple[str, ...], flags: dict[str, object]
) -> None:
    call = parse(FLAGS, argv)
    assert call.args == args
    assert call.flags == flags


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--x"], "unknown flag: --x"),
        (["--x=1"], "unknown flag: --x"),
        (["--=1"], "bad flag syntax: --=1"),
        (["---x"], "bad flag syntax: ---x"),
        (["-xv"], "unknown shorthand flag: 'x' in -xv"),
        (["--file"], "flag needs an argument: --file"),
        (["-f"], "flag needs an argument: 'f' in -f"),
        (
            ["--dimensions", "x"],
            (
                'invalid argument "x" for "--dimensions" flag: '
                'strconv.ParseInt: parsing "x": invalid syntax'
            ),
        ),
        (
            ["-v=x"],
            (
                'invalid argument "x" for "-v, --verbose" flag: '
                'strconv.ParseBool: parsing "x": invalid syntax'
            ),
        ),
    ],
)
def test_a_flag_that_means_nothing_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, argv)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", 'unknown command "nonsense" for "corral"'),
        ("lst", 'unknown command "lst" for "corral"\n\nDid you mean this?\n\tlist'),
        ("help nonsense", 'unknown command "nonsense" for "corral"'),
        ("--x", "unknown flag: --x"),
        ("list --x", "unknown flag: --x"),
        ("rm", "requires at least 1 arg(s), only received 0"),
        ("run", "requires at least 1 arg(s), only received 0"),
        ("cp a", "accepts 2 arg(s), received 1"),
        ("show", "accepts 1 arg(s), received 0"),
        ("serve now", "accepts 0 arg(s), received 1"),
        (
            "run m --think=x",
            'invalid value for --think: "x" (must be true, false, high, medium, low, or max)',
        ),
        ("run m --keepalive 5x", 'time: unknown unit "x" in duration "5x"'),
        (
            "show m --license --system",
            (
                "only one of '--license', '--modelfile', '--parameters', '--system', "
                "or '--template' can be specified"
            ),
        ),
        ("create a/b/c/d/e", "invalid model name: a/b/c/d/e"),
    ],
)
def test_a_wrong_command_line_says_why_and_fails(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(line.split())

    captured = capsys.readouterr()
    assert status == 1
    assert captured.out == ""
    assert captured.err == f"Error: {message}\n"


@pytest.mark.parametrize("line", ["signin", "logout", "launch x"])
def test_commands_that_there_are_not_say_so(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 1
    assert "this release of corral has no accounts" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["", "--help", "-h", "help", "help run", "run --help", "serve -h"])
def test_help_is_printed_and_ends_with_the_variables(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 0
    text = capsys.readouterr().out
    assert "Usage:\n  corral" in text
    _, _, variables = text.partition("\nEnvironment Variables:\n")
    assert variables.startswith(f"      {'CORRAL_HOST':<27}   where the server listens")
    assert all(line.startswith("      CORRAL_") for line in variables.splitlines())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_a_function_that_answers_it(command: object) -> None:
    module, _, function = command.handler.partition(":")  # type: ignore[attr-defined] # a Command
    assert callable(getattr(importlib.import_module(module), function))


def test_the_version_is_told_without_loading_what_takes_long() -> None:
    code = (
        "import sys; from corral_cli.main import main; main(['--version']);"
        "long = {'litestar', 'numpy', 'prompt_toolkit', 'rich', 'uvicorn'};"
        "print(sorted(long & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={"PYTHONPATH": ":".join(sys.path), "CORRAL_HOST": "127.0.0.1:1"},
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "Warning: could not connect to a running Corral instance",
        "Warning: client version is 0.1.0",
        "[]",
    ]


def test_help_tells_how_to_have_a_model_think(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    out = capsys.readouterr().out
    assert "not in this release" not in out
    assert "--think" in out
    assert "--hidethinking" in out


def test_help_tells_how_a_model_is_quantized(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "--help"]) == 0
    out = capsys.readouterr().out
    assert "not in this release" not in out
    for flag in ("quantize", "draft-quantize", "imatrix", "experimental"):
        assert f"--{flag}" in out
