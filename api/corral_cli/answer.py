"""An answer as it comes: thinking, text, tool calls, and the timings at its end."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from corral_cli import wire
from corral_cli.progress import Progress
from corral_cli.terminal import BOLD, GREY, PLAIN, Writer
from corral_kernel.durations import SECOND, format_duration
from corral_kernel.errors import CorralError

NO_LAST_LINE: Final = (
    "Warning: the answer ended without its last line, as servers end one in which "
    "the same piece came 32 times in a row\n"
)
_LABEL_WIDTH: Final = 22


class Answer:
    """What a model said, gathered while it is shown."""

    def __init__(self, *, wrap: bool, hide_thinking: bool) -> None:
        self._writer = Writer(wrap=wrap)
        self._hide_thinking = hide_thinking
        self._thinking_open = False
        self.content = ""
        self.thinking = ""
        self.last: wire.Chunk | None = None  # the line with the timings; None until it came

    def show(self, chunks: Iterable[wire.Chunk]) -> None:
        """Show an answer to its end. A spinner turns until its first piece is there.

        Raises:
            CorralError: What ends the answer in the middle; the terminal is on a new line then.
        """
        try:
            for chunk in _with_spinner(chunks):
                self._show(chunk)
        except CorralError:
            self.leave()
            raise
        if self._thinking_open:
            self._close_thinking()

    def _show(self, chunk: wire.Chunk) -> None:
        message = chunk.message or wire.Message(role="assistant")
        thinking = chunk.thinking + message.thinking
        content = chunk.response + message.content
        calls = (chunk.tool_calls or []) + (message.tool_calls or [])
        self.thinking += thinking  # before it is shown: who interrupts has seen it
        self.content += content
        if thinking and not self._hide_thinking:
            self._show_thinking(thinking)
        if self._thinking_open and (content or calls):
            self._close_thinking()
        if content:
            self._writer.write(content)
        for call in calls:
            self._writer.write(_refusal(call))
        if chunk.done:
            self.last = chunk

    def _show_thinking(self, text: str) -> None:
        if not self._thinking_open:
            self._thinking_open = True
            self._writer.style(GREY + BOLD)
            self._writer.write("Thinking...\n")
            self._writer.style(PLAIN + GREY)
        self._writer.write(text)

    def _close_thinking(self) -> None:
        self._thinking_open = False
        self._writer.write("" if self.thinking.endswith("\n") else "\n")
        self._writer.style(BOLD)
        self._writer.write("...done thinking.\n\n")
        self._writer.style(PLAIN)

    def leave(self) -> None:
        """End an answer that came to no end: on a terminal, what follows has its own line."""
        self.interrupt()
        self._writer.end_line()

    def interrupt(self) -> None:
        """Leave the colours as they were: nothing more is coming."""
        if self._thinking_open:
            self._thinking_open = False
            self._writer.style(PLAIN)


def _with_spinner(chunks: Iterable[wire.Chunk]) -> Iterator[wire.Chunk]:
    with Progress(fleeting=True) as progress:
        progress.step("")
        for chunk in chunks:
            progress.close()
            yield chunk


def _refusal(call: wire.ToolCall) -> str:
    arguments = json.dumps(call.function.arguments, ensure_ascii=False)
    name = call.function.name
    return f"  Model called a non-existent function '{name}()' with arguments: {arguments}\n"


def print_warnings(chunk: wire.Chunk) -> None:
    """Print on standard error what the server warns of: such as options that nothing obeys."""
    for text in chunk.warnings:
        sys.stderr.write(f"warning: {''.join(c for c in text if c.isprintable())}\n")


def print_timings(chunk: wire.Chunk) -> None:
    """Print the timings of an answer on standard error; what is zero is left out."""
    rows = (
        ("total duration", _duration(chunk.total_duration)),
        ("load duration", _duration(chunk.load_duration)),
        ("prompt eval count", _tokens(chunk.prompt_eval_count)),
        ("prompt eval duration", _duration(chunk.prompt_eval_duration)),
        ("prompt eval rate", _rate(chunk.prompt_eval_count, chunk.prompt_eval_duration)),
        ("eval count", _tokens(chunk.eval_count)),
        ("eval duration", _duration(chunk.eval_duration)),
        ("eval rate", _rate(chunk.eval_count, chunk.eval_duration)),
    )
    for label, value in rows:
        if value:
            sys.stderr.write(f"{f'{label}:':<{_LABEL_WIDTH}}{value}\n")


def _duration(nanoseconds: int) -> str:
    return format_duration(nanoseconds) if nanoseconds > 0 else ""


def _tokens(count: int) -> str:
    return f"{count} token(s)" if count > 0 else ""


def _rate(count: int, nanoseconds: int) -> str:
    return f"{count / (nanoseconds / SECOND):.2f} tokens/s" if nanoseconds > 0 else ""
