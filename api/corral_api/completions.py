"""Completions as HTTP answers: a stream of lines, or one object; and never for nobody."""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from litestar import Request, Response

from corral_api.answers import json_response
from corral_api.errors import ErrorContext, remember
from corral_api.streaming import LineStream, while_connected
from corral_api.tool_calls import Calls
from corral_api.wire.encode import encode_line
from corral_api.wire.responses import (
    Answer,
    DebugInfo,
    Logprob,
    TokenLogprob,
    ToolCall,
    logprob_raw,
)
from corral_kernel import frames
from corral_kernel.calls import Call, CompletionCall
from corral_kernel.completion import Completion, Piece
from corral_kernel.frames import Done, Text
from corral_kernel.models import Model
from corral_kernel.service import Corral

REPEATED: Final = "repeat"
"""The end of an answer that went round in circles: it stops without a last object."""

NOTHING: Final = Text(job_id=0)


class Writer(ABC):
    """Writes the objects of one answer.

    Args:
        context: Of the request; names the model as the client does.
        started_ns: When the request came, by `time.perf_counter_ns`.
        model: That answers.

    Attributes:
        place: Where the model runs, for each object: on which server, by which name; else nothing.
        calls_at_end: Calls of tools stand in the last object alone.
    """

    calls_at_end = False

    def __init__(self, context: ErrorContext, started_ns: int, model: Model) -> None:
        self.context = context
        self.model = context.model
        config = model.config
        self.place: dict[str, Any] = {
            "remote_model": config.remote_model,
            "remote_host": config.remote_host,
        }
        self.load_ns = 0
        self.warnings: tuple[str, ...] = ()
        self._calls = Calls()
        self._started_ns = started_ns

    @abstractmethod
    def write(
        self,
        text: Text = NOTHING,
        *,
        calls: Sequence[ToolCall] = (),
        done: bool = False,
        **more: Any,
    ) -> Answer:
        """Make one object of a piece of text, or of calls."""

    def end_fields(self, _done: Done) -> dict[str, Any]:
        """Give what the last object of this route has beside the common fields."""
        return {}

    def idle(self, reason: str) -> Answer:
        """Make the answer to a request that only loads or unloads."""
        return self.write(done=True, done_reason=reason, warnings=self.warnings)

    def line(self, event: Piece | Done) -> bytes:
        """Make the line of an event; a call has one when it is whole."""
        if isinstance(event, frames.ToolCall):
            self._calls.add(event)
            calls = () if self.calls_at_end else self._calls.take()
            return encode_line(self.write(calls=calls)) if calls else b""
        if isinstance(event, Text):
            return encode_line(self.write(event))
        cut = self._calls.cut()
        line = encode_line(self.write(Text(job_id=0, content=cut))) if cut else b""
        return line + (b"" if event.reason == REPEATED else encode_line(self.end(event)))

    def whole(self, pieces: Sequence[Piece], done: Done) -> Answer:
        """Make the one object of an answer that is not streamed."""
        texts = [piece for piece in pieces if isinstance(piece, Text)]
        for piece in pieces:
            if isinstance(piece, frames.ToolCall):
                self._calls.add(piece)
        text = Text(
            job_id=0,
            content="".join(piece.content for piece in texts) + self._calls.cut(),
            thinking="".join(piece.thinking for piece in texts),
            logprobs=tuple(token for piece in texts for token in piece.logprobs),
        )
        if done.reason == REPEATED:
            return self.write(text, calls=self._calls.take(), warnings=self.warnings)
        return self.end(done, text)

    def end(self, done: Done, text: Text = NOTHING) -> Answer:
        """Make the last object: why it ended, and what it took."""
        return self.write(
            text,
            calls=self._calls.take(),
            done=True,
            done_reason=done.reason,
            total_duration=time.perf_counter_ns() - self._started_ns,
            load_duration=self.load_ns,
            prompt_eval_count=done.prompt_tokens,
            prompt_eval_duration=done.prompt_ns,
            eval_count=done.output_tokens,
            eval_duration=done.output_ns,
            forced_count=done.forced_tokens,
            warnings=self.warnings,
            **self.end_fields(done),
        )


async def answer(
    request: Request[Any, Any, Any],
    corral: Corral,
    call: CompletionCall,
    writer: Writer,
    *,
    stream: bool,
) -> Response[bytes]:
    """Run a completion and answer with it, line by line if `stream`."""
    context = writer.context._replace(streaming=stream)
    remember(request, context)
    async with while_connected(request.receive):
        completion = await corral.complete(call)
    writer.load_ns, writer.warnings = completion.load_ns, completion.warnings
    if stream and not call.render_only:
        return LineStream(completion, writer.line, context)
    async with contextlib.aclosing(completion), while_connected(request.receive):
        if call.render_only:
            debug_info = _debug_info(completion)
            return json_response(writer.write(debug_info=debug_info, warnings=writer.warnings))
        return json_response(await _whole(completion, writer))


async def _whole(completion: Completion, writer: Writer) -> Answer:
    pieces: list[Piece] = []
    async for event in completion:
        if isinstance(event, Done):
            return writer.whole(pieces, event)
        pieces.append(event)
    raise AssertionError("a completion without an end")


def _debug_info(completion: Completion) -> DebugInfo:
    return DebugInfo(rendered_template=completion.accepted.rendered or "")


async def load(
    request: Request[Any, Any, Any], corral: Corral, call: Call, writer: Writer
) -> Response[bytes]:
    """Load the model, and say so."""
    async with while_connected(request.receive):
        writer.warnings = await corral.load(call)
    return json_response(writer.idle("load"))


async def unload(corral: Corral, call: Call, writer: Writer) -> Response[bytes]:
    """Have the model unloaded as soon as it is idle, and say so at once."""
    await corral.unload(call.model)
    return json_response(writer.idle("unload"))


def format_of(raw: bytes | None) -> bytes | None:
    """Give a request's `format` as JSON text; an empty one is none."""
    return None if raw == b'""' else raw


def logprobs_of(tokens: tuple[frames.TokenLogprob, ...]) -> tuple[Logprob, ...]:
    """Write the log-probabilities of the tokens of a piece of text."""
    return tuple(
        Logprob(
            token=token.token,
            logprob=logprob_raw(token.logprob),
            bytes=tuple(token.bytes),
            top_logprobs=tuple(map(_alternative, token.top)),
        )
        for token in tokens
    )


def _alternative(token: frames.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(
        token=token.token, logprob=logprob_raw(token.logprob), bytes=tuple(token.bytes)
    )
