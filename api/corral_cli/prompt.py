"""Reading a line in the terminal: editing, history, pasting, and an editor for long prompts."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from corral_kernel.environment import variable

_HISTORY_LENGTH: Final = 100
_LONGEST_ENTRY_BYTES: Final = 1024 * 1024
_PLACEHOLDER: Final = FormattedText([("fg:ansibrightblack", "Send a message (/? for help)")])


class KeptHistory(History):
    """The last hundred lines, in a file of one JSON string a line; `keep` turns it on and off."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        super().__init__()
        self._path = path
        self.keep = keep

    def load_history_strings(self) -> Iterable[str]:
        """Give the lines kept, newest first; those that cannot be read are left out."""
        return reversed(self._read()) if self.keep else ()

    def append_string(self, string: str) -> None:
        """Remember a line, if lines are to be remembered."""
        if self.keep:
            super().append_string(string)

    def store_string(self, string: str) -> None:
        """Write the file anew with one more line; where that fails, history is not kept."""
        lines = [*self._read(), string[:_LONGEST_ENTRY_BYTES]][-_HISTORY_LENGTH:]
        text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = self._path.with_name(f"{self._path.name}.new")
            with open(new, "wb", opener=_for_its_owner_alone) as file:
                file.write(text)
            new.replace(self._path)
        except OSError:
            self.keep = False

    def _read(self) -> list[str]:
        try:
            data = self._path.read_bytes()
        except OSError:
            return []
        lines: list[str] = []
        for line in data.splitlines()[-_HISTORY_LENGTH:]:
            try:
                lines.append(msgspec.json.decode(line, type=str))
            except msgspec.MsgspecError:
                continue
        return lines


def _for_its_owner_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class LineReader:
    """Reads what the user types."""

    def __init__(self, history: Path, *, keep: bool) -> None:
        self.history = KeptHistory(history, keep=keep)
        self._session: PromptSession[str] = PromptSession(
            history=self.history, key_bindings=_bindings(), enable_suspend=True
        )

    def read(self, *, continued: bool = False) -> str:
        """Read one line; a pasted text may be several.

        Raises:
            EOFError: On Ctrl+D in an empty line.
            KeyboardInterrupt: On Ctrl+C in an empty line.
        """
        if continued:
            return self._session.prompt("... ", placeholder="")
        return self._session.prompt(">>> ", placeholder=_PLACEHOLDER)


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("c-c")
    def _clear_or_interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    @bindings.add("c-g")
    async def _edit(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        text = await run_in_terminal(lambda: edit(buffer.text), in_executor=True)
        buffer.text = text
        buffer.cursor_position = len(text)

    return bindings


def edit(text: str) -> str:
    """Let the user change a text in an editor; if that fails, it stays as it is.

    The editor is `CORRAL_EDITOR` or `OLLAMA_EDITOR`, else `VISUAL`, `EDITOR`, or vi.
    """
    environ = os.environ
    command = variable(environ, "EDITOR") or environ.get("VISUAL") or environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        path = Path(folder, "prompt.txt")
        path.write_text(text, encoding="utf-8")
        try:
            status = subprocess.call([*shlex.split(command), str(path)])  # noqa: S603 - the user's own editor
        except (OSError, ValueError):
            return text
        if status != 0:
            return text
        return path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
