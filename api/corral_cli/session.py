"""A conversation with a model: what was said, and how it goes on."""

import sys
from contextlib import closing
from typing import Any, Final

from corral_cli import wire
from corral_cli.answer import NO_LAST_LINE, Answer, print_timings, print_warnings
from corral_cli.client import Client
from corral_cli.errors import ServerError
from corral_cli.progress import Progress
from corral_cli.settings import RunSettings
from corral_cli.terminal import Writer

_GOES_ON: Final = ("does not support thinking", "invalid think value")


class Session:
    """A conversation with one model at a time."""

    def __init__(self, client: Client, settings: RunSettings, info: wire.ModelInfo) -> None:
        self.client = client
        self.settings = settings
        self.info = info
        self.system = ""
        self.messages: list[wire.Message] = []

    def load(self) -> None:
        """Load the model and show the example messages that it comes with."""
        with Progress(fleeting=True) as progress:
            progress.step("")
            body = {**self.settings.request(), "stream": False}
            body.pop("format", None)
            self.client.post("/api/generate", body, wire.Chunk)
        for message in self.info.messages or []:
            if message.role == "user":
                sys.stdout.write(f">>> {message.content}\n")
            elif message.role == "assistant":
                Writer(wrap=self.settings.wrap).write(f"{message.content}\n\n")

    def open(self, model: str) -> None:
        """Go on with another model; the conversation so far is forgotten.

        Raises:
            ServerError: If there is none of that name, or it cannot be loaded; the session is
                as it was.
        """
        info = self.client.post("/api/show", {"model": model}, wire.ModelInfo)
        before = self.info, self.settings.model, self.settings.think
        self.info, self.settings.model = info, model
        self.settings.think = True if "thinking" in (info.capabilities or []) else None
        try:
            self.load()
        except ServerError:
            self.info, self.settings.model, self.settings.think = before
            raise
        self.messages = []

    def ask(self, text: str) -> None:
        """Send a message with all that came before it, and show the answer.

        Raises:
            ServerError: If the server cannot answer; the session ends, except where only the
                thinking mode is to blame.
        """
        self.messages.append(wire.Message(role="user", content=text))
        answer = Answer(wrap=self.settings.wrap, hide_thinking=self.settings.hide_thinking)
        try:
            with closing(self.client.stream("/api/chat", self._body(), wire.Chunk)) as chunks:
                answer.show(chunks)
            ended = True
        except KeyboardInterrupt:
            answer.interrupt()
            ended = False
        except ServerError as error:
            if not any(reason in str(error) for reason in _GOES_ON):
                raise
            sys.stderr.write(f"error: {error}\n")
            self.messages.pop()
            return
        self._keep(answer)
        if ended and answer.last is None:
            sys.stderr.write(NO_LAST_LINE)

    def _keep(self, answer: Answer) -> None:
        sys.stdout.write("\n\n")
        if answer.content or answer.thinking:
            self.messages.append(
                wire.Message(role="assistant", content=answer.content, thinking=answer.thinking)
            )
        else:
            self.messages.pop()  # two messages of a user in a row are more than some templates take
        if answer.last is None:
            return
        print_warnings(answer.last)
        if self.settings.verbose:
            print_timings(answer.last)

    def describe(self) -> wire.ModelInfo:
        """Ask what the server knows of the model, with what is set here put in."""
        body: dict[str, Any] = {"model": self.settings.model, "name": self.settings.model}
        body |= {"system": self.system, "options": self.settings.options}
        return self.client.post("/api/show", body, wire.ModelInfo)

    def save(self, name: str) -> None:
        """Make a model of this session: this model, what was set, and what was said.

        Raises:
            ServerError: If the server cannot make it.
            BrokenAnswerError: If its answer is cut off.
        """
        fields = {
            "system": self.system,
            "parameters": self.settings.options,
            "messages": [*(self.info.messages or []), *self.messages],
        }
        body: dict[str, Any] = {"model": name, "from": self.settings.model}
        body |= {field: value for field, value in fields.items() if value}
        for _ in self.client.stream("/api/create", body, wire.Progress):
            pass

    def _body(self) -> dict[str, Any]:
        system = [wire.Message(role="system", content=self.system)] if self.system else []
        return {**self.settings.request(), "messages": system + self.messages}
