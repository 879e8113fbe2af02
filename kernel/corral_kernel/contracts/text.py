"""Engines with a loop of their own: a request in, pieces of text out.

Such an engine samples by itself: of a request's options it obeys what it says it can, and the rest
is refused by name before it is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from corral_kernel.contracts.chat import Message, ToolChoice
from corral_kernel.contracts.chat_parsers import CallPart
from corral_kernel.contracts.engine import Engine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceLogprob:
    """One token of a piece: its text, its bytes, its log-probability, the likeliest others."""

    text: str
    bytes: bytes
    logprob: float
    top: tuple[PieceLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """One request.

    Attributes:
        job_id: Unique in this worker.
        target: Which of the models that this engine reaches; empty: its only one.
        messages: The conversation, system message included; None: `prompt` is to be continued.
        prompt: Text to go on from as it stands.
        max_tokens: New tokens at most; None: the engine's own limit.
        seed: For equal answers; None: any.
        stop: Texts that end the answer and are no part of it.
        sampling: Options of sampling that the request or the model sets, by name; nothing that
            is not set, so that the engine's own defaults hold.
        format: JSON text of a format to enforce; empty: free text.
        logprobs: Report the log-probability of each token, and of this many others.
        tools: That the model may call, as OpenAI writes them; only with `messages`.
        tool_choice: Whether it is to call one.
        think: Whether to think, or how much; None: not said; only with `messages`.
    """

    job_id: int
    target: str = ""
    messages: Sequence[Message] | None = None
    prompt: str = ""
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    sampling: Mapping[str, Any]
    format: bytes = b""
    logprobs: int | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    think: bool | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an answer; calls that it completes come after its text."""

    content: str = ""
    thinking: str = ""
    calls: tuple[CallPart, ...] = ()
    logprobs: tuple[PieceLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The last thing that an answer gives.

    Attributes:
        reason: `stop` or `length`.
        prompt_tokens: Of the prompt, cached ones included; 0: not told.
        cached_tokens: Of those, the ones that needed no computing.
        output_tokens: Of the answer; 0: not told.
    """

    reason: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextVectors:
    """Vectors `(n, dim)` float32 of a request's texts, not normalised; and the texts' tokens."""

    rows: NDArray[np.float32]
    prompt_tokens: int = 0


class TextEngine(Engine):
    """A request in, pieces of text out: another server, a vendor's pipeline.

    Its methods are called on the worker's engine thread, in one asyncio event loop, which begins to
    run after `corral_load` returned; any number of requests run at once, up to `info.slots`. What
    one raises fails its own request: a `CorralError` keeps its code. A method that blocks keeps all
    others from running; blocked for the step timeout, the worker is taken for hung and ended.

    Attributes:
        takes: `chat`: conversations as they are. `text`: the worker renders them first. As its
            claim says.
        sampling: Names of the options of sampling that it obeys, `Claim.sampling` at most.
        formats: Kinds of `format` that it enforces, `Claim.formats` at most.
    """

    takes: Literal["chat", "text"] = "chat"
    sampling: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()

    def generate(self, request: TextRequest) -> AsyncIterator[Piece | Ending]:
        """Answer: pieces, then one `Ending`; an answer that breaks off raises.

        The iterator is asked for the next piece when the last is on its way to a client that reads
        it. It is cancelled where it waits and closed as soon as nobody wants the answer any more,
        or a stop string came: to be closed cancels the request.
        """
        raise NotImplementedError

    async def embed(
        self, target: str, texts: Sequence[str], dimensions: int, *, truncate: bool
    ) -> TextVectors:
        """Make vectors, if `embedding` is among the capabilities.

        Args:
            target: As in a `TextRequest`.
            texts: One or more.
            dimensions: Keep the first few of each; 0: all.
            truncate: Whether texts that are too long may be cut; False: they are an error.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close what is open in the event loop that served the requests; before `close`, as that.

        Connections are such. The default has none.
        """
