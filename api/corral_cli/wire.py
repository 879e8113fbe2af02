"""The server's answers as typed structs. Fields that a server may leave out have defaults."""

from typing import Any

from msgspec import Raw, Struct


class Version(Struct):
    """`GET /api/version`; `corral_version` is absent where the server is not ours."""

    version: str = ""
    corral_version: str = ""


class Details(Struct, frozen=True):
    """What the server knows of a model's file."""

    parent_model: str = ""
    format: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""


class Listed(Struct):
    """One model of `GET /api/tags`."""

    name: str
    digest: str = ""
    size: int = 0
    modified_at: str = ""
    remote_model: str = ""


class Tags(Struct):
    """`GET /api/tags`."""

    models: list[Listed] | None = None


class Engine(Struct):
    """What runs a loaded model; only a server of ours tells."""

    backend: str = ""
    slots: int = 0
    details: dict[str, Any] = {}


class Running(Struct):
    """One model of `GET /api/ps`; sizes are bytes."""

    name: str
    digest: str = ""
    size: int = 0
    size_vram: int = 0
    expires_at: str = ""
    context_length: int = 0
    engine: Engine | None = None


class Processes(Struct):
    """`GET /api/ps`."""

    models: list[Running] | None = None


class Tensor(Struct):
    """One tensor of a model file."""

    name: str
    type: str = ""
    shape: list[int] | None = None


class ToolFunction(Struct):
    """What a model wants called."""

    name: str = ""
    arguments: Any = None


class ToolCall(Struct):
    """A call that a model asks for."""

    function: ToolFunction


class Message(Struct, omit_defaults=True):
    """A message of a conversation; also what is sent, so empty parts are left out."""

    role: str
    content: str = ""
    thinking: str = ""
    tool_calls: list[ToolCall] | None = None


class BackendBid(Struct, frozen=True):
    """What a backend that was not chosen bids for a model."""

    name: str = ""
    why: str = ""
    confidence: float = 0.0


class AbsentBackend(Struct, frozen=True):
    """A backend whose library is missing, and that would bid for the model."""

    name: str = ""
    why: str = ""
    needs: str = ""
    install: str = ""


class Backend(Struct, frozen=True):
    """What would run a model and why, or the error that says why nothing would; ours alone."""

    name: str = ""
    why: str = ""
    confidence: float | None = None
    chosen_by: str = ""
    others: tuple[BackendBid, ...] = ()
    absent: tuple[AbsentBackend, ...] = ()
    error: str = ""


class ModelInfo(Struct):
    """`POST /api/show`."""

    details: Details = Details()
    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    messages: list[Message] | None = None
    remote_model: str = ""
    remote_host: str = ""
    model_info: dict[str, Any] | None = None
    projector_info: dict[str, Any] | None = None
    tensors: list[Tensor] | None = None
    capabilities: list[str] | None = None
    requires: str = ""
    backend: Backend = Backend()


class Line(Struct):
    """One line of a streamed answer; with an `error` it is the last one."""

    error: Any = None


class Progress(Line):
    """A line of `POST /api/create`; sizes are bytes."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0


class Chunk(Line):
    """A line of `POST /api/generate` (`response`) or `/api/chat` (`message`); durations are ns."""

    response: str = ""
    thinking: str = ""
    message: Message | None = None
    done: bool = False
    done_reason: str = ""
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    tool_calls: list[ToolCall] | None = None
    warnings: list[str] = []


class ComparedSide(Struct, frozen=True):
    """One of two models; `memory` in bytes, `load_duration` in nanoseconds."""

    model: str = ""
    backend: str = ""
    quantization: str = ""
    load_duration: int = 0
    memory: int = 0
    tokens_per_second: float | None = None


class Difference(Struct, frozen=True):
    """Where two answers part: at which token, and what stands there."""

    token: int | None = None
    character: int = 0
    a: str = ""
    b: str = ""


class ComparedPrompt(Struct, frozen=True):
    """One prompt; divergences in nats."""

    prompt: str = ""
    tokens: int = 0
    first_difference: Difference | None = None
    same_prompt: bool | None = None
    kl: tuple[float, ...] = ()
    kl_mean: float | None = None
    kl_max: float | None = None


class Comparison(Line):
    """A line of `POST /api/compare`: a step, or at the status `success` the result."""

    status: str = ""
    side: str = ""
    model: str = ""
    completed: int = 0
    total: int = 0
    a: ComparedSide = ComparedSide()
    b: ComparedSide = ComparedSide()
    prompts: tuple[ComparedPrompt, ...] = ()
    equal: int = 0
    kl_mean: float | None = None
    kl_max: float | None = None
    agreement: float | None = None
    kl_reason: str = ""
    warnings: tuple[str, ...] = ()


class Embeddings(Struct):
    """`POST /api/embed`; the vectors as the server wrote them."""

    embeddings: list[Raw] = []


class Quantizer(Struct):
    """Who makes a type."""

    name: str
    install: str = ""  # what is missing


class QuantizationType(Struct):
    """A type that quantizers make; `imatrix` is `takes`, `needs` or `none`."""

    name: str
    bits_per_weight: float = 0.0
    docs: str = ""
    imatrix: str = "none"
    quantizers: list[Quantizer] = []


class Quantizers(Struct):
    """`GET /api/quantizers`."""

    types: list[QuantizationType] | None = None
