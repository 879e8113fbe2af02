"""Answers of OpenAI-compatible servers as pieces of text and an ending."""

from collections.abc import Callable, Iterator
from typing import Final

from corral_kernel.contracts.text import Ending, Piece, PieceLogprob
from corral_kernel.errors import CorralError, RemoteServerError
from corral_remote.failures import told_in_stream, words
from corral_remote.tools import HeardCalls
from corral_remote.wire import Choice, Chunk, Logprobs, Said, TokenChance, Usage, decode

DONE: Final = b"[DONE]"
_MOST_TOKENS: Final = 2**53
_BYTE: Final = range(256)
_BROKEN: Final = frozenset({"abort", "error"})  # vLLM and SGLang end requests of theirs by these


class Heard:
    """One answer, chunk by chunk.

    Args:
        where: The base URL, for errors.
        top: How many of the likeliest tokens to tell beside each, at most; None: tell nothing of
            log-probabilities, even if the server does.
        scrub: Takes out of errors what must not be shown.

    Attributes:
        done: The server said that nothing follows.
    """

    def __init__(self, where: str, top: int | None, scrub: Callable[[str], str]) -> None:
        self._where = where
        self._top = top
        self._scrub = scrub
        self._reason = ""
        self._usage = Usage()
        self._calls = HeardCalls(where)
        self.done = False

    def ended(self) -> bool:
        """Whether a chunk gave a finish reason: what may still come is the usage."""
        return bool(self._reason)

    def take(self, data: bytes) -> Piece | None:
        """Read the data of one event; None: it has no text, or comes after the end.

        Raises:
            RemoteServerError: If it is no chunk, or tells an error.
        """
        if self.done or data.strip() == DONE:
            self.done = True
            return None
        chunk = decode(data, Chunk, f"a piece of the answer of {self._where}")
        if chunk.error or chunk.object == "error":
            raise self._error(chunk, data)
        if chunk.usage is not None:
            self._usage = chunk.usage
        first = next((choice for choice in chunk.choices or () if choice.index == 0), None)
        return None if first is None else self._choice(first)

    def _error(self, chunk: Chunk, data: bytes) -> CorralError:
        told = chunk.error or words(data, self._scrub)
        return told_in_stream(self._where, told, self._scrub)

    def _choice(self, choice: Choice) -> Piece | None:
        if choice.finish_reason in _BROKEN:
            raise told_in_stream(
                self._where, f"finish reason {choice.finish_reason!r}", self._scrub
            )
        self._reason = choice.finish_reason or self._reason
        said = choice.delta or choice.message or Said()
        self._calls.add(said.tool_calls or ())
        piece = Piece(
            content=said.content or choice.text or "",
            thinking=said.reasoning_content or said.reasoning or "",
            logprobs=self._logprobs(choice.logprobs),
        )
        return piece if piece.content or piece.thinking or piece.logprobs else None

    def _logprobs(self, given: Logprobs | None) -> tuple[PieceLogprob, ...]:
        top = self._top
        return () if given is None or top is None else tuple(_logprobs(given, top))

    def calls(self) -> Piece | None:
        """Give the calls of tools, once the stream is over; None: there are none."""
        return self._calls.piece(whole=self._reason != "length")

    def ending(self) -> Ending:
        """Make the ending, once the stream is over.

        `length` stays; every other reason is `stop`, `content_filter` too: Ollama's API has no
        more words than these two.

        Raises:
            RemoteServerError: If the stream was cut in the middle.
        """
        if not self.ended() and not self.done:
            raise RemoteServerError(f"the answer of {self._where} was cut off in the middle")
        details = self._usage.prompt_tokens_details
        return Ending(
            reason="length" if self._reason == "length" else "stop",
            prompt_tokens=_count(self._usage.prompt_tokens),
            cached_tokens=_count(details.cached_tokens if details else None),
            output_tokens=_count(self._usage.completion_tokens),
        )


def _count(told: int | None) -> int:
    return min(max(told or 0, 0), _MOST_TOKENS)


def _logprobs(given: Logprobs, count: int) -> Iterator[PieceLogprob]:
    """Read either form: a list of tokens, as chats have it, or three lists side by side."""
    for chance in given.content or ():
        top = tuple(_chance(other) for other in (chance.top_logprobs or ())[:count])
        yield _chance(chance, top)
    tops = given.top_logprobs or []
    values = given.token_logprobs or []
    for place, (text, value) in enumerate(zip(given.tokens or (), values, strict=False)):
        others = (tops[place] if place < len(tops) else None) or {}
        likeliest = sorted(others.items(), key=lambda pair: -pair[1])[:count]
        top = tuple(_plain(*pair) for pair in likeliest)
        yield _plain(text, value or 0.0, top)


def _chance(given: TokenChance, top: tuple[PieceLogprob, ...] = ()) -> PieceLogprob:
    given_bytes = given.bytes
    if given_bytes is None or any(byte not in _BYTE for byte in given_bytes):
        return _plain(given.token, given.logprob, top)
    return PieceLogprob(text=given.token, bytes=bytes(given_bytes), logprob=given.logprob, top=top)


def _plain(text: str, logprob: float, top: tuple[PieceLogprob, ...] = ()) -> PieceLogprob:
    return PieceLogprob(text=text, bytes=text.encode(), logprob=logprob, top=top)
