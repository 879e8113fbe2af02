"""The messages between server and worker: msgpack of the structs below, cut as `framing` has it.

Only bytes cross: no descriptors, durations but no clock times.
"""

from typing import Any

import msgspec
from msgspec import Struct

from corral_kernel.chains import Chain
from corral_kernel.contracts.backend import Claim, EngineInfo, FileRef
from corral_kernel.contracts.chat import Message, ToolChoice
from corral_kernel.options import RequestOptions


class Frame(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """A message on a worker's channel."""


# ------------------------------------------------------------------------------ to the worker


class Ping(Frame, frozen=True, kw_only=True, tag="ping"):
    """Whether a process that waits lives and listens; answered by `Pong`."""


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
        literal: Control tokens that `text` spells, or messages that are not the system's, stay
            text.
        renderer: Name of the chat format's renderer; an engine that takes chats needs none.
        template: Its template.
        messages: The conversation.
        context_ids: Token ids whose text goes before the prompt.
        drop_messages: Leave out the oldest messages that are not the system's until it fits.
        cut_middle: Then cut token ids from the middle.
        think: Whether to think, or how much, for templates that ask; None: not said.
        suffix: What is to follow the answer, for templates that ask.
        tools: That are shown to the model, as OpenAI writes them.
        shown_names: Of tools that are to be shown by other names than their own.
    """

    text: str | None = None
    literal: bool = False
    renderer: str = ""
    template: str = ""
    messages: tuple[Message, ...] = ()
    context_ids: tuple[int, ...] = ()
    drop_messages: bool = False
    cut_middle: bool = False
    think: bool | str | None = None
    suffix: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    shown_names: dict[str, str] = {}


class Reading(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the answer is read.

    Args:
        parser: Name of the chat format's parser.
        calls: Whether calls of tools count.
        renderer: Whose template tells how, of a prompt that is taken verbatim.
        template: That template.
    """

    parser: str
    calls: bool = False
    renderer: str = ""
    template: str = ""


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
        reading: What is made of the text; None: nothing.
        tool_choice: Whether the answer is to be a call.
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
    reading: Reading | None = None
    tool_choice: ToolChoice = ToolChoice()


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


ForJobs = Generate | Encode | Cancel | Pause | Resume
ToWorker = Load | ForJobs

# ---------------------------------------------------------------------------- from the worker


class Pong(Frame, frozen=True, kw_only=True, tag="pong"):
    """It does: the answer to `Ping`."""


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """The process is up and waits for its first message, a `Load` or a task. The first frame."""

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


class ToolCall(Event, frozen=True, kw_only=True, tag="tool_call"):
    """A part of a call of a tool; the parts of one call follow each other.

    Args:
        index: Of the call in the answer, from 0.
        id: Of the call, in its first part.
        name: Of the tool, in its first part.
        arguments: The next piece of the JSON text of its arguments.
        last: Nothing of this call follows.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    last: bool = True


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


JobEvent = Accepted | Text | ToolCall | Scores | Vectors | Done | Failed


class Step(Frame, frozen=True, kw_only=True, tag="step"):
    """What one step brought, for all jobs; an empty one tells that a long step goes on."""

    events: tuple[JobEvent, ...] = ()


FromWorker = Loading | Loaded | LoadFailed | Step

encode = msgspec.msgpack.Encoder().encode
decode_hello = msgspec.msgpack.Decoder(Hello).decode
decode_pong = msgspec.msgpack.Decoder(Pong).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
