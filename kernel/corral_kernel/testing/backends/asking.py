"""Answers of a kernel, whole or under way, and what they are asked and refused with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corral_kernel.completion import Completion
from corral_kernel.contracts import Message
from corral_kernel.errors import CorralError, RemoteJobError
from corral_kernel.frames import Accepted, Done, Text, TokenLogprob

if TYPE_CHECKING:
    from corral_kernel.testing.backends.kernels import RunningKernel


@dataclass(frozen=True)
class Answer:
    """All that came of one completion.

    Attributes:
        accepted: What the worker said of the prompt.
        pieces: Of the text, as they came.
        done: The end.
        warnings: For the client.
    """

    accepted: Accepted
    pieces: Sequence[Text]
    done: Done
    warnings: Sequence[str]

    @property
    def text(self) -> str:
        """What was said."""
        return "".join(piece.content for piece in self.pieces)

    @property
    def logprobs(self) -> list[TokenLogprob]:
        """Of each token, if they were asked for."""
        return [logprob for piece in self.pieces for logprob in piece.logprobs]


class Started:
    """An answer under way. `close` cancels what still runs."""

    def __init__(self, kernel: RunningKernel, completion: Completion) -> None:
        self._kernel = kernel
        self._completion = completion

    def next_text(self) -> str:
        """Wait for a piece; empty: the answer is over."""
        while isinstance(event := self._kernel.run(anext(self._completion)), Text):
            if event.content:
                return event.content
        return ""

    def rest(self) -> str:
        """Read it to its end.

        Raises:
            CorralError: What ended it instead.
        """
        return "".join(iter(self.next_text, ""))

    def close(self) -> None:
        """Cancel it."""
        self._kernel.run(self._completion.aclose())


def chat(*turns: str) -> tuple[Message, ...]:
    """A conversation: the user's turn, the assistant's, and so on."""
    roles = ("user", "assistant")
    return tuple(Message(role=roles[i % 2], content=turn) for i, turn in enumerate(turns))


def code_of(error: CorralError) -> str:
    """The code of an error, of the worker's where it comes from there."""
    return error.remote_code if isinstance(error, RemoteJobError) else error.code
