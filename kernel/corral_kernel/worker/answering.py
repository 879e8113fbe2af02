"""One answer of an engine with a loop of its own: pieces in, events out."""

import codecs
import math
import time
from collections.abc import Iterator, Sequence

from corral_kernel.checking import sound_text
from corral_kernel.contracts import CallPart, Ending, EndReason, Piece, PieceLogprob, TextRequest
from corral_kernel.errors import EngineError
from corral_kernel.frames import Accepted, Done, Generate, JobEvent, Text, TokenLogprob
from corral_kernel.worker.output import Output
from corral_kernel.worker.reading import Reader

IMPOSSIBLE = -9999.0  # in place of minus infinity, which JSON cannot say
MOST_COUNT = 1 << 53
RANDOM_SEED = -1


def text_request(spec: Generate, prompt: str | None) -> TextRequest:
    """Make the engine's own request.

    Args:
        spec: The request.
        prompt: Text to go on from; None: the engine takes the messages.
    """
    options = spec.options
    return TextRequest(
        job_id=spec.job_id,
        target=spec.target,
        messages=spec.prompt.messages if prompt is None else None,
        prompt=prompt or "",
        max_tokens=None if options.num_predict < 0 else max(1, options.num_predict),
        seed=None if options.seed == RANDOM_SEED else options.seed,
        stop=tuple(stop for stop in options.stop if stop),
        sampling=spec.sampling,
        format=spec.format,
        logprobs=spec.logprobs,
        tools=spec.prompt.tools if prompt is None else (),
        tool_choice=spec.tool_choice,
        think=spec.prompt.think if prompt is None else None,
    )


class TextAnswer:
    """What an engine's pieces make.

    Stop strings are looked for here as well: an engine that is slow to see one, or knows none, is
    not believed.

    Args:
        request: Its job's.
        reader: What makes events of the text; None: all of it is content.

    Attributes:
        id: Of the job.
    """

    def __init__(self, request: TextRequest, reader: Reader | None = None) -> None:
        self.id = request.job_id
        self.request = request
        self._reader = Reader(request.job_id) if reader is None else reader
        self._output = Output(request.stop)
        self._content, self._thinking = _Unicode(), _Unicode()
        self._begun_ns = self._first_ns = 0
        self._told_tokens = 0

    @property
    def accepted(self) -> Accepted:
        """What is told when it is taken; the engine counts tokens itself."""
        return Accepted(job_id=self.id, prompt_tokens=0)

    def begin(self) -> None:
        """It has room: the engine is asked now."""
        self._begun_ns = time.perf_counter_ns()

    def take(self, item: Piece | Ending) -> Iterator[JobEvent]:
        """Take what the engine gave; give the events that this decides, `Done` at the end.

        Raises:
            EngineError: If it is neither a piece nor an end as the contract has them.
            CorralError: If the parser fails.
        """
        if isinstance(item, Piece):
            yield from self._take_piece(item)
        elif isinstance(item, Ending) and item.reason in ("stop", "length"):
            yield from self._events(self._output.end(), ends=item.reason)
            yield self._done(item.reason, item)
        else:
            raise EngineError(f"the engine gave {_described(item)} where a piece or an end was due")

    def _take_piece(self, piece: Piece) -> Iterator[JobEvent]:
        if not self._first_ns and piece != _NO_PIECE:
            self._first_ns = time.perf_counter_ns()
        self._told_tokens += len(piece.logprobs)
        content = ""
        for data, logprob in self._tokens(piece):
            content += self._output.feed(data, logprob)
            if self._output.stopped:
                break
        thinking = self._thinking.feed(piece.thinking).decode("utf-8")
        if thinking:
            yield Text(job_id=self.id, thinking=thinking)
        stopped = self._output.stopped or self._reader.ended
        yield from self._events(content, ends="stop" if stopped else None)
        for part in piece.calls:
            yield self._reader.event(_sound(part))
        if stopped:
            # The engine is not asked for its counts: it would first have to write on to its end.
            yield self._done("stop", Ending(output_tokens=self._told_tokens))

    def _events(self, content: str, ends: EndReason | None) -> Sequence[JobEvent]:
        self._reader.feed(content)
        if ends is not None:
            self._reader.finish(ends)
        return self._reader.take(self._output.logprobs())

    def _tokens(self, piece: Piece) -> Iterator[tuple[bytes, TokenLogprob | None]]:
        """The content by its tokens, where these are told and come to just that."""
        content = self._content.feed(piece.content)
        told = () if self.request.logprobs is None else piece.logprobs
        logprobs = [_logprob(logprob, self.request.logprobs or 0) for logprob in told]
        if b"".join(logprob.bytes for logprob in logprobs) == content:
            yield from ((logprob.bytes, logprob) for logprob in logprobs)
            return
        yield from ((b"", logprob) for logprob in logprobs)
        yield content, None

    def _done(self, reason: str, ending: Ending) -> Done:
        now = time.perf_counter_ns()
        first = self._first_ns or now
        return Done(
            job_id=self.id,
            reason=reason,
            prompt_tokens=_count(ending.prompt_tokens),
            cached_tokens=_count(ending.cached_tokens),
            prompt_ns=first - self._begun_ns,
            output_tokens=_count(ending.output_tokens),
            output_ns=now - first,
        )


_NO_PIECE = Piece()


def _sound(part: CallPart) -> CallPart:
    return CallPart(part.index, sound_text(part.name), sound_text(part.arguments), part.last)


class _Unicode:
    """Text in pieces as UTF-8. A character may come in halves, as JSON writes those over U+FFFF."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-16-le")("replace")

    def feed(self, text: str) -> bytes:
        if text.isascii() and not self._decoder.getstate()[0]:
            return text.encode()
        halves = text.encode("utf-16-le", "surrogatepass")
        return self._decoder.decode(halves).encode("utf-8")


def _logprob(piece: PieceLogprob, top: int) -> TokenLogprob:
    text = sound_text(piece.text)
    value = float(piece.logprob)
    return TokenLogprob(
        text,
        bytes(piece.bytes) or text.encode(),
        max(value, IMPOSSIBLE) if math.isfinite(value) else IMPOSSIBLE,
        tuple(_logprob(other, 0) for other in piece.top[:top]),
    )


def _count(value: int) -> int:
    return min(max(0, int(value)), MOST_COUNT)


def _described(item: object) -> str:
    if isinstance(item, Ending):
        return f"an end of reason {item.reason!r:.100}"
    return type(item).__name__
