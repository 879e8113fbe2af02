"""Every answer of the native API: the order of the fields is the order on the wire.

A field with a default is left out of the JSON while it has it; one without is always there. What
is Corral's own stands last in its object: `warnings` tell of options that nothing obeys. Times are
texts made by `times`, durations nanoseconds, and floats `msgspec.Raw` made by `numbers` or
`vectors`.
"""

from typing import Any

from msgspec import Raw, Struct, field

from corral_api.wire.numbers import float64_text


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all objects that are sent."""


class ErrorResponse(Answer, frozen=True, kw_only=True):
    """An error, as an answer of its own or as the last line of a stream."""

    error: str


class VersionResponse(Answer, frozen=True, kw_only=True):
    """`GET /api/version`: the level of the API that is spoken, and Corral's own version."""

    version: str
    corral_version: str = ""


class CloudStatus(Answer, frozen=True, kw_only=True):
    """Whether the cloud is off, and who says so: `none`, `env`, `config` or `both`."""

    disabled: bool
    source: str


class StatusResponse(Answer, frozen=True, kw_only=True):
    """`GET /api/status`."""

    cloud: CloudStatus


class ModelDetails(Answer, frozen=True, kw_only=True):
    """What kind of model it is. `families` is null where there is none."""

    parent_model: str
    format: str
    family: str
    families: tuple[str, ...] | None
    parameter_size: str
    quantization_level: str
    context_length: int = 0  # in the list of models only
    embedding_length: int = 0


class ListedModel(Answer, frozen=True, kw_only=True):
    """A model that is stored. `digest` is 64 hex digits; `modified_at` in the local zone."""

    name: str
    model: str
    remote_model: str = ""
    remote_host: str = ""
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    capabilities: tuple[str, ...] = ()


class ListResponse(Answer, frozen=True, kw_only=True):
    """`GET /api/tags`."""

    models: tuple[ListedModel, ...]


class EngineEntry(Answer, frozen=True, kw_only=True):
    """What runs a loaded model; `details` are for people."""

    backend: str
    slots: int
    details: dict[str, str | int] = field(default_factory=dict)


class RunningModel(Answer, frozen=True, kw_only=True):
    """A model that is loaded; sizes in bytes, `expires_at` in the local zone."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int
    engine: EngineEntry | None = None


class ProcessResponse(Answer, frozen=True, kw_only=True):
    """`GET /api/ps`."""

    models: tuple[RunningModel, ...]


class ToolCallFunction(Answer, frozen=True, kw_only=True):
    """What the model wants called; numbers in `arguments` go through `numbers.go_json`."""

    index: int
    name: str
    arguments: dict[str, Any]


class ToolCall(Answer, frozen=True, kw_only=True):
    """A call that the model asks for."""

    id: str = ""
    function: ToolCallFunction


class ResponseMessage(Answer, frozen=True, kw_only=True):
    """A message in an answer; also in `/api/show`, with role and content alone."""

    role: str
    content: str
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


class Tensor(Answer, frozen=True, kw_only=True):
    """A tensor of a model file."""

    name: str
    type: str
    shape: tuple[int, ...]


class BackendBid(Answer, frozen=True, kw_only=True):
    """What a backend that was not chosen bids for a model."""

    name: str
    why: str
    confidence: Raw


class AbsentBackend(Answer, frozen=True, kw_only=True):
    """A backend that would bid if the library that it `needs` were there."""

    name: str
    why: str = ""
    needs: str
    install: str


class Backend(Answer, frozen=True, kw_only=True):
    """What would run a model, and why that; or the `error` that says why nothing would."""

    name: str = ""
    why: str = ""
    confidence: Raw | None = None
    chosen_by: str = ""
    others: tuple[BackendBid, ...] = ()
    absent: tuple[AbsentBackend, ...] = ()
    error: str = ""


class ShowResponse(Answer, frozen=True, kw_only=True):
    """`POST /api/show`. Keys of `model_info` in order; its float32 values by `float32_raw`."""

    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    details: ModelDetails
    messages: tuple[ResponseMessage, ...] = ()
    remote_model: str = ""
    remote_host: str = ""
    model_info: dict[str, Any]
    projector_info: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = ()
    capabilities: tuple[str, ...] = ()
    modified_at: str
    requires: str = ""
    backend: Backend | None = None


class TokenLogprob(Answer, frozen=True, kw_only=True):
    """A token that could have been, its natural log-probability, and its bytes."""

    token: str
    logprob: Raw
    bytes: tuple[int, ...] = ()


class Logprob(Answer, frozen=True, kw_only=True):
    """The token that came, and the likeliest ones in its place, if they were asked for."""

    token: str
    logprob: Raw
    bytes: tuple[int, ...] = ()
    top_logprobs: tuple[TokenLogprob, ...] = ()


def logprob_raw(value: float) -> Raw:
    """Write a log-probability; the largest negative number stands for minus infinity."""
    return Raw(float64_text(value).encode())


class DebugInfo(Answer, frozen=True, kw_only=True):
    """What a prompt was rendered to."""

    rendered_template: str
    image_count: int = 0


class GenerateResponse(Answer, frozen=True, kw_only=True):
    """A piece, or the end, of the answer of `/api/generate`."""

    model: str
    remote_model: str = ""
    remote_host: str = ""
    created_at: str
    response: str
    thinking: str = ""
    done: bool
    done_reason: str = ""
    context: tuple[int, ...] = ()
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    debug_info: DebugInfo | None = field(default=None, name="_debug_info")
    logprobs: tuple[Logprob, ...] = ()
    forced_count: int = 0
    warnings: tuple[str, ...] = ()


class ChatResponse(Answer, frozen=True, kw_only=True):
    """A piece, or the end, of the answer of `/api/chat`."""

    model: str
    remote_model: str = ""
    remote_host: str = ""
    created_at: str
    message: ResponseMessage
    done: bool
    done_reason: str = ""
    debug_info: DebugInfo | None = field(default=None, name="_debug_info")
    logprobs: tuple[Logprob, ...] = ()
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    forced_count: int = 0
    warnings: tuple[str, ...] = ()


class EmbedResponse(Answer, frozen=True, kw_only=True):
    """`POST /api/embed`; `embeddings` by `vectors.float32_rows`, `Raw(b"[]")` for none."""

    model: str
    embeddings: Raw
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    warnings: tuple[str, ...] = ()


class EmbeddingResponse(Answer, frozen=True, kw_only=True):
    """`POST /api/embeddings`; `embedding` by `vectors.widened_row`, `Raw(b"[]")` for none."""

    embedding: Raw
    warnings: tuple[str, ...] = ()


class ProgressResponse(Answer, frozen=True, kw_only=True):
    """A step of create, pull or push; sizes in bytes."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class Recommendation(Answer, frozen=True, kw_only=True):
    """A model to try."""

    model: str
    description: str
    context_length: int = 0
    max_output_tokens: int = 0
    vram_bytes: int = 0
    required_plan: str = ""


class RecommendationsResponse(Answer, frozen=True, kw_only=True):
    """`GET /api/experimental/model-recommendations`."""

    recommendations: tuple[Recommendation, ...]
