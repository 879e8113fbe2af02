"""The `corral` command: finds the command that is meant, runs it, and says what went wrong.

Nothing that takes long to import is imported here.
"""

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from corral_cli import helptext
from corral_cli.commands import COMMANDS, Command, find
from corral_cli.errors import UsageError
from corral_cli.parser import Call, Flag, parse
from corral_kernel.environment import flag
from corral_kernel.errors import CorralError
from corral_kernel.gotext import quote

_INTERRUPTED = 130  # 128 + SIGINT, as a shell counts
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: Its words, without the program's name; by default those of this process.

    Returns:
        The exit status: 0, or 1 for every error.
    """
    for stream in (sys.stdout, sys.stderr):
        # Text from a model may hold what the terminal's encoding cannot say.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return _BROKEN_PIPE
    except CorralError as error:
        return _fail(str(error))
    except Exception as error:  # noqa: BLE001 - the last line of defence: no user reads a traceback
        if flag(os.environ, "DEBUG"):
            traceback.print_exc()
        return _fail(f"unexpected {type(error).__name__}: {error}")
    return status


def _run(argv: list[str]) -> int:
    position = next((i for i, word in enumerate(argv) if not word.startswith("-")), None)
    if position is None:
        return _run_root(argv)
    name, rest = argv[position], argv[:position] + argv[position + 1 :]
    if name == "help":
        return _run_help(rest)
    command = find(name)
    if command is None:
        raise UsageError(_unknown_command(name))
    call = parse(command.flags, rest)
    if call.on("help"):
        sys.stdout.write(helptext.of_command(command))
        return 0
    command.check(call.args)
    return _handler(command)(call) or 0


def _run_root(argv: list[str]) -> int:
    call = parse((Flag("version", "show versions", short="v"),), argv)
    if call.on("version") and not call.on("help"):
        from corral_cli.version import version

        version()
        return 0
    sys.stdout.write(helptext.root())
    return 0


def _run_help(rest: list[str]) -> int:
    call = parse((), rest)
    command = find(call.args[0]) if call.args else None
    if call.args and command is None:
        raise UsageError(_unknown_command(call.args[0]))
    sys.stdout.write(helptext.of_command(command) if command else helptext.root())
    return 0


def _handler(command: Command) -> Callable[[Call], int | None]:
    module, _, function = command.handler.partition(":")
    handler: Callable[[Call], int | None] = getattr(importlib.import_module(module), function)
    return handler


def _unknown_command(name: str) -> str:
    names = [c.name for c in COMMANDS if not c.hidden]
    near = difflib.get_close_matches(name, names, n=3)
    hint = "".join(f"\n\t{candidate}" for candidate in near)
    return f'unknown command {quote(name)} for "corral"' + (
        f"\n\nDid you mean this?{hint}" if near else ""
    )


def _fail(message: str) -> int:
    # Whatever the message repeats, it does not move the cursor.
    shown = "".join(c for c in message if c.isprintable() or c in "\n\t")
    try:
        sys.stdout.flush()
        sys.stderr.write(f"Error: {shown}\n")
    except BrokenPipeError:
        _drop_stdout()
    return 1


def _drop_stdout() -> None:
    """Point standard output at nothing, or the interpreter's last flush would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
