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


class Backend(Struct, frozen=True):
    """What would run a model and why, or the error that says why nothing would; ours alone."""

    name: str = ""
    why: str = ""
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


class Embeddings(Struct):
    """`POST /api/embed`; the vectors as the server wrote them."""

    embeddings: list[Raw] = []
