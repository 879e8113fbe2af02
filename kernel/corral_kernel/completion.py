"""One answer on its way: from a worker's job to whoever reads it."""

from collections.abc import AsyncIterator
from typing import NamedTuple, Self

from msgspec import Struct

from corral_kernel.errors import WorkerError
from corral_kernel.frames import Accepted, Done, JobEvent, Text, ToolCall, Vectors
from corral_kernel.supervisor import JobStream


class Granted(NamedTuple):
    """What came with a worker: the time until it was granted, and warnings for the client."""

    load_ns: int
    warnings: tuple[str, ...] = ()


Piece = Text | ToolCall
"""What an answer consists of."""


class Completion:
    """An async iterator of `Piece` and, last, one `Done`; a failure in between is raised.

    `aclose` must be called in any case: it cancels what still runs.

    Args:
        stream: Of the worker.
        accepted: Its first event.
        first: Its second, already there.
        granted: What came with the worker.

    Attributes:
        warnings: What of the request nothing obeys, for the client.
    """

    def __init__(
        self, stream: JobStream, accepted: Accepted, first: Piece | Done, granted: Granted
    ) -> None:
        self.accepted = accepted
        self.load_ns = granted.load_ns
        self.warnings = (*granted.warnings, *accepted.warnings)
        self._stream = stream
        self._first: Piece | Done | None = first

    def __aiter__(self) -> AsyncIterator[Piece | Done]:
        return self

    async def __anext__(self) -> Piece | Done:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        event = await anext(self._stream)
        if not isinstance(event, Piece | Done):
            raise WorkerError(f"a worker sent {type(event).__name__} where text was due")
        return event

    async def aclose(self) -> None:
        """Cancel the job if it still runs; a second time does nothing."""
        self._stream.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()


class Encoding(Struct, frozen=True, kw_only=True):
    """Vectors: `count` rows of `dim` float32, little-endian.

    Args:
        prompt_tokens: Of all texts, special ones counted.
        load_ns: Time until a worker was granted.
        warnings: What of the request nothing obeys, for the client.
    """

    count: int
    dim: int
    data: bytes
    prompt_tokens: int
    load_ns: int
    warnings: tuple[str, ...] = ()


async def begin(stream: JobStream, granted: Granted) -> Completion:
    """Wait until an answer has begun: what fails before that has a status of its own.

    Raises:
        CorralError: Why it failed. The job is over then, also when the caller is cancelled.
    """
    try:
        accepted = await _next(stream)
        if not isinstance(accepted, Accepted):
            raise WorkerError(f"a worker sent {type(accepted).__name__} before it took the job")
        first = await _next(stream)
        if not isinstance(first, Piece | Done):
            raise WorkerError(f"a worker sent {type(first).__name__} where text was due")
    except BaseException:
        stream.cancel()
        raise
    return Completion(stream, accepted, first, granted)


async def gather_vectors(stream: JobStream, granted: Granted) -> Encoding:
    """Wait for all vectors.

    Raises:
        CorralError: Why it failed. The job is over then, also when the caller is cancelled.
    """
    vectors, tokens = None, 0
    try:
        async for event in stream:
            if isinstance(event, Vectors):
                vectors = event
            elif isinstance(event, Done):
                tokens = event.prompt_tokens
    finally:
        stream.cancel()
    if vectors is None:
        raise WorkerError("a worker ended a job without its vectors")
    dim = len(vectors.data) // 4 // vectors.count if vectors.count else 0
    return Encoding(
        count=vectors.count,
        dim=dim,
        data=vectors.data,
        prompt_tokens=tokens,
        load_ns=granted.load_ns,
        warnings=granted.warnings,
    )


async def _next(stream: JobStream) -> JobEvent:
    try:
        return await anext(stream)
    except StopAsyncIteration:
        raise WorkerError("a worker ended a job without its answer") from None
