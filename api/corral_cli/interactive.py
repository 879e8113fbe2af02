"""The interactive session of `corral run`: lines in, answers out, until the user leaves."""

import os
import sys
from typing import Final

from corral_cli import slash
from corral_cli.prompt import LineReader
from corral_cli.session import Session
from corral_kernel.environment import flag, home_dir

_QUOTES: Final = '"""'
_LEAVE_HINT: Final = "Use Ctrl + d or /bye to exit.\n"


def talk(session: Session) -> None:
    """Load the model, then talk with it until the user leaves.

    Raises:
        ServerError: If the server cannot answer.
        BrokenAnswerError: If it goes away.
    """
    keep = not flag(os.environ, "NOHISTORY")
    reader = LineReader(home_dir(os.environ) / "history", keep=keep)
    commands = slash.Commands(session, reader.history)
    session.load()
    while True:
        try:
            line = reader.read()
            is_command = line.startswith("/")
            text = _complete(reader, line)
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            sys.stdout.write(_LEAVE_HINT)
            continue
        if is_command:
            if not _run(commands, text):
                return
        elif text.strip():
            session.ask(text)


def _run(commands: slash.Commands, line: str) -> bool:
    """Do what a command asks for; Ctrl+C ends it, and not the session."""
    try:
        return commands.run(line)
    except KeyboardInterrupt:
        sys.stdout.write("\n")
        return True


def _complete(reader: LineReader, line: str) -> str:
    """Read on where a line opens a block of lines, and take its quotes off."""
    if slash.takes_text(line):
        head, opening, rest = line.partition(_QUOTES)
        return head + _block(reader, rest) if opening else line
    return _block(reader, line.removeprefix(_QUOTES)) if line.startswith(_QUOTES) else line


def _block(reader: LineReader, text: str) -> str:
    lines = [text]
    while not lines[-1].rstrip().endswith(_QUOTES):
        lines.append(reader.read(continued=True))
    lines[-1] = lines[-1].rstrip().removesuffix(_QUOTES)
    return "\n".join(lines)
