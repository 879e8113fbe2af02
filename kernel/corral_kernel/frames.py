"""The messages between server and worker, and how they are cut into frames.

A frame is a little-endian uint32 length and that many bytes, 1 MiB at most. Its first byte tells
its kind: a whole message, or a piece of a longer one (with a uint32 stream number). Messages are
msgpack of the structs below; only bytes cross: no descriptors, durations but no clock times.
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from corral_kernel.chains import Chain
from corral_kernel.contracts.backend import Claim, EngineInfo, FileRef
from corral_kernel.contracts.chat import Message
from corral_kernel.errors import FrameError
from corral_kernel.options import RequestOptions

FRAME_BYTES = 1 << 20
MESSAGE_BYTES = 1 << 31
"""Bounds of one frame and of one message put together from frames."""
STREAM_NUMBERS = 1 << 32
STREAMS = 256
"""Messages that may be under way in pieces at once."""

_WHOLE, _PIECE, _LAST = 0, 1, 2
_HEAD = struct.Struct("<IB")
_STREAM = struct.Struct("<I")


class Frame(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """A message on a worker's channel."""


# ------------------------------------------------------------------------------ to the worker


class Load(Frame, frozen=True, kw_only=True, tag="load"):
    """Load a model; answered by `Loading` frames, then `Loaded` or `LoadFailed`. The first frame.

    Args:
        api_version: Of the server's contract.
        plugin: Entry-point name of the plugin that claimed.
        claim: Its bid.
        options: Effective load options, as a mapping for the backend's own struct.
        files: The model's files.
        slots: Jobs at once.
        step_timeout_s: While anything is open the worker owes a frame this often.
        remotes: Hosts that models may run on.
    """

    api_version: int
    plugin: str
    claim: Claim
    options: dict[str, Any]
    files: tuple[FileRef, ...]
    slots: int
    step_timeout_s: float = 60.0
    remotes: tuple[str, ...] = ()


class PromptSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to render, and what to do when it is too long.

    Args:
        text: A prompt to take verbatim; None: render `messages`.
        renderer: Name of the chat format's renderer; an engine that takes chats needs none.
        template: Its template.
        messages: The conversation.
        context_ids: Token ids whose text goes before the prompt.
        drop_messages: Leave out the oldest messages that are not the system's until it fits.
        cut_middle: Then cut token ids from the middle.
        think: Whether to think, or how much, for templates that ask; None: not said.
        suffix: What is to follow the answer, for templates that ask.
    """

    text: str | None = None
    renderer: str = ""
    template: str = ""
    messages: tuple[Message, ...] = ()
    context_ids: tuple[int, ...] = ()
    drop_messages: bool = False
    cut_middle: bool = False
    think: bool | str | None = None
    suffix: str = ""


class Score(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Have a completion measured: greedily chosen or along a text, and answered by `Scores`.

    Args:
        follow: Token ids to feed in place of those that the model would choose; none: its own.
        rows: Distributions to compare its rows with, as `tasks.distributions` packs them.
        keep_rows: Report its distributions.
    """

    follow: tuple[int, ...] = ()
    rows: bytes = b""
    keep_rows: bool = False


class Generate(Frame, frozen=True, kw_only=True, tag="generate"):
    """Ask for one completion; answered by `Accepted`, events, then one `Done` or `Failed`.

    Args:
        job_id: Unique on this channel.
        prompt: What to continue.
        options: Limits and seed.
        chain: Samplers.
        adapters: LoRA weights of this job.
        constraint: Name of the constraint type; empty: none.
        format: What it is to enforce, as JSON text.
        shift: Go on when the window is full, by forgetting old positions.
        logprobs: Report the log-probability of each token, and of this many others.
        repeat_limit: End after this many equal pieces in a row; 0: never.
        render_only: Answer with the rendered prompt and end.
        want_ids: Report all token ids at the end.
        cache_scope: Prefixes are shared only within it.
        now: Seconds since 1970, for templates.
        target: Which of the models that a `TextEngine` reaches; empty: its only one.
        sampling: Options of sampling for a `TextEngine`, by name.
        score: Measure it; for a `TokenEngine` alone.
    """

    job_id: int
    prompt: PromptSpec
    options: RequestOptions
    chain: Chain = Chain()
    adapters: tuple[FileRef, ...] = ()
    constraint: str = ""
    format: bytes = b""
    shift: bool = True
    logprobs: int | None = None
    repeat_limit: int = 0
    render_only: bool = False
    want_ids: bool = False
    cache_scope: str = ""
    now: float = 0.0
    target: str = ""
    sampling: dict[str, Any] = {}
    score: Score | None = None


class Encode(Frame, frozen=True, kw_only=True, tag="encode"):
    """Ask for vectors; answered by one `Vectors` and `Done`, or `Failed`.

    Args:
        job_id: Unique on this channel.
        texts: In order.
        truncate: Cut what is too long; False: fail.
        normalize: Scale to length 1.
        dimensions: Keep the first few of each vector (before normalising); 0: all.
        target: As in `Generate`.
    """

    job_id: int
    texts: tuple[str, ...]
    truncate: bool = True
    normalize: bool = True
    dimensions: int = 0
    target: str = ""


class Cancel(Frame, frozen=True, kw_only=True, tag="cancel"):
    """End a job; its `Failed` (or a `Done` that was under way) still comes."""

    job_id: int


class Pause(Frame, frozen=True, kw_only=True, tag="pause"):
    """Stop feeding a job whose client does not read."""

    job_id: int


class Resume(Frame, frozen=True, kw_only=True, tag="resume"):
    """Go on feeding it."""

    job_id: int


ToWorker = Load | Generate | Encode | Cancel | Pause | Resume

# ---------------------------------------------------------------------------- from the worker


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """The worker is up and waits for `Load`."""

    api_version: int
    pid: int


class Loading(Frame, frozen=True, kw_only=True, tag="loading"):
    """Loading goes on."""

    share: float


class Loaded(Frame, frozen=True, kw_only=True, tag="loaded"):
    """The model is ready."""

    info: EngineInfo


class LoadFailed(Frame, frozen=True, kw_only=True, tag="load_failed"):
    """The model could not be loaded; the worker ends."""

    code: str
    message: str


class TokenLogprob(Struct, frozen=True, array_like=True):
    """A token's text, bytes and log-probability, and the likeliest others at its place."""

    token: str
    bytes: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


class Event(Struct, frozen=True, kw_only=True, tag_field="op", omit_defaults=True):
    """Something that happened to one job."""

    job_id: int


class Accepted(Event, frozen=True, kw_only=True, tag="accepted"):
    """A job was rendered and tokenized, and waits for room or runs.

    Args:
        prompt_tokens: After truncation; 0: a `TextEngine` counts them itself.
        dropped_messages: Left out to make it fit.
        dropped_tokens: Cut from the middle.
        warnings: For people.
        rendered: The prompt's text, only for `render_only`.
    """

    prompt_tokens: int
    dropped_messages: int = 0
    dropped_tokens: int = 0
    warnings: tuple[str, ...] = ()
    rendered: str | None = None


class Text(Event, frozen=True, kw_only=True, tag="text"):
    """A piece of the answer."""

    content: str = ""
    thinking: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


class Scores(Event, frozen=True, kw_only=True, tag="scores"):
    """What was measured of a completion with a `Score`; comes before its `Done`.

    Args:
        token_ids: That were fed, or would have been next: one that ends the answer is the last.
        best_ids: The likeliest token in the place of each.
        pieces: The bytes of each of `token_ids`, of control tokens too.
        text: Of the answer.
        offsets: Bytes of that text there are after each token.
        vocabulary: A digest of all pieces by id.
        rows: Distributions, one for each token, if they are kept.
        divergences: Of this model's rows from those that were given, in nats.
    """

    token_ids: tuple[int, ...]
    best_ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    text: str
    offsets: tuple[int, ...]
    vocabulary: bytes
    rows: bytes = b""
    divergences: tuple[float, ...] = ()


class Vectors(Event, frozen=True, kw_only=True, tag="vectors"):
    """All vectors of an `Encode`: float32, little-endian, `count` rows."""

    count: int
    data: bytes


class Done(Event, frozen=True, kw_only=True, tag="done"):
    """A job ended as it should.

    Args:
        reason: `stop`, `length`, or `repeat` (the guard against endless repetition).
        prompt_tokens: Of the prompt as it ran, cached ones included; samplers' companions not.
        cached_tokens: Of those, the ones that needed no computing.
        prompt_ns: From admission to the first row of logits.
        output_tokens: Chosen or forced.
        forced_tokens: Of those, the ones that a constraint or plan left no alternative to.
        output_ns: From the first row to the end.
        steps: Forward passes that gave rows of logits: fewer than `output_tokens` where drafts
            came true or tokens were forced.
        token_ids: Prompt and answer, if asked for.
    """

    reason: str
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_ns: int = 0
    output_tokens: int = 0
    forced_tokens: int = 0
    output_ns: int = 0
    steps: int = 0
    token_ids: tuple[int, ...] = ()


class Failed(Event, frozen=True, kw_only=True, tag="failed"):
    """A job ended otherwise."""

    code: str
    message: str


JobEvent = Accepted | Text | Scores | Vectors | Done | Failed


class Step(Frame, frozen=True, kw_only=True, tag="step"):
    """What one step brought, for all jobs; an empty one tells that a long step goes on."""

    events: tuple[JobEvent, ...] = ()


FromWorker = Hello | Loading | Loaded | LoadFailed | Step

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode


def to_frames(message: bytes, stream: int) -> Iterator[bytes]:
    """Cut an encoded message into frames; pieces of other streams may stand between them.

    Raises:
        FrameError: If it is over `MESSAGE_BYTES`.
    """
    if len(message) < FRAME_BYTES:
        yield _HEAD.pack(len(message) + 1, _WHOLE) + message
        return
    if len(message) > MESSAGE_BYTES:
        raise FrameError(f"a message of {len(message)} bytes is over the {MESSAGE_BYTES} allowed")
    number = _STREAM.pack(stream % STREAM_NUMBERS)
    room = FRAME_BYTES - 1 - _STREAM.size
    for start in range(0, len(message), room):
        piece = message[start : start + room]
        kind = _LAST if start + room >= len(message) else _PIECE
        yield (_HEAD.pack(len(piece) + 1 + _STREAM.size, kind) + number + piece)


class Assembler:
    """Bytes as they come in; messages as they are complete. Bounded by `limit_bytes` in all."""

    def __init__(self, limit_bytes: int = MESSAGE_BYTES) -> None:
        self._buffer = bytearray()
        self._streams: dict[int, bytearray] = {}
        self._limit_bytes = limit_bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; give the messages that they complete.

        Raises:
            FrameError: On anything that is no frame, or over the bounds.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _HEAD.size:
                length, kind = _HEAD.unpack_from(buffer, start)
                if not 1 <= length <= FRAME_BYTES or kind > _LAST:
                    raise FrameError(f"a frame of {length} bytes and kind {kind}")
                end = start + _HEAD.size - 1 + length
                if len(buffer) < end:
                    break
                body = bytes(memoryview(buffer)[start + _HEAD.size : end])
                start = end
                if kind == _WHOLE:
                    yield body
                elif (whole := self._join(body, last=kind == _LAST)) is not None:
                    yield whole
        finally:
            del buffer[:start]  # no message comes twice, even if its taker raised

    def _join(self, body: bytes, *, last: bool) -> bytes | None:
        if len(body) < _STREAM.size:
            raise FrameError("a piece without its stream number")
        (stream,) = _STREAM.unpack_from(body)
        joined = self._streams.setdefault(stream, bytearray())
        joined += memoryview(body)[_STREAM.size :]
        if len(self._streams) > STREAMS:
            raise FrameError(f"over {STREAMS} messages are under way at once")
        if sum(map(len, self._streams.values())) > self._limit_bytes:
            raise FrameError(f"messages under way are over {self._limit_bytes} bytes")
        return bytes(self._streams.pop(stream)) if last else None
