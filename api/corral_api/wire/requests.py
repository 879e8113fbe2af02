"""Every request of the native API. A field that is left out, or null, has its default.

The names of the structs and kinds are Go's where an error text shows them.
"""

from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Struct, field

from corral_api.wire.decoding import Decoding
from corral_api.wire.gojson import Node
from corral_api.wire.kinds import (
    ANY,
    BOOL,
    IMAGES,
    INT,
    LOWER,
    OPTIONS,
    STRING,
    Checked,
    Custom,
    Map,
    OrderedMap,
    Parsed,
    Raw,
    Record,
    Slice,
    StringOrStrings,
)
from corral_kernel.contracts.chat import ToolChoice
from corral_kernel.durations import keep_alive_from_json
from corral_kernel.gotext import quote

_THINK_LEVELS = ("high", "medium", "low", "max")
_CHOICES = '"auto", "none", "required", or {"type": "function", "function": {"name": "…"}}'
_THINK_WORDS = '"high", "medium", "low", "max", true, or false'


def _keep_alive(value: Any) -> int:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return keep_alive_from_json(value)
    go_type = {bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}
    raise ValueError(f"Unsupported type: '{go_type[type(value)]}'")


def _think(value: Any) -> bool | str:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f"think must be a boolean or string ({_THINK_WORDS})")  # noqa: TRY004 (a decoder's complaint)
    if value not in _THINK_LEVELS:
        raise ValueError(f"invalid think value: {quote(value)} (must be {_THINK_WORDS})")
    return value


def _tool_choice(value: Any) -> ToolChoice:
    if isinstance(value, str) and value in ("auto", "none", "required"):
        return ToolChoice(mode=cast("Literal['auto', 'none', 'required']", value))
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if isinstance(name, str) and name and value.get("type", "function") == "function":
        return ToolChoice(mode="required", name=name)
    raise ValueError(f"invalid tool_choice (must be {_CHOICES})")


def _inputs(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("invalid input type")
    return tuple(value)


Text = Annotated[str, STRING]
Flag = Annotated[bool, BOOL]
MaybeFlag = Annotated[bool | None, BOOL]
Integer = Annotated[int, INT]
Integers = Annotated[tuple[int, ...], Slice(INT, "[]int")]
Strings = Annotated[tuple[str, ...], Slice(STRING, "[]string")]
StringMap = Annotated[dict[str, str], Map(STRING, "map[string]string")]
MaybeStringMap = Annotated[dict[str, str] | None, Map(STRING, "map[string]string")]
AnyMap = Annotated[dict[str, Any], OPTIONS]
Anything = Annotated[Any, ANY]
Images = Annotated[tuple[bytes, ...], IMAGES]
KeepAlive = Annotated[int | None, Parsed(_keep_alive)]
"""Nanoseconds; `durations.FOREVER` for "never unload", `None` for the server's own setting."""
Think = Annotated[bool | str | None, Parsed(_think)]
Choice = Annotated[ToolChoice, Parsed(_tool_choice)]
RawJson = Annotated[bytes | None, Raw()]


class ToolCallFunction(Struct, frozen=True, kw_only=True):
    """What a model asked to be called."""

    index: Integer = 0
    name: Text = ""
    arguments: Annotated[dict[str, Any], OrderedMap(ANY)] = field(default_factory=dict)


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call of a tool, as an earlier answer gave it."""

    id: Text = ""
    function: Annotated[ToolCallFunction, Record(ToolCallFunction)] = ToolCallFunction()


class Message(Struct, frozen=True, kw_only=True):
    """One message of a conversation. The role is in lower case, and may be any text."""

    role: Annotated[str, LOWER] = ""
    content: Text = ""
    thinking: Text = ""
    images: Images = ()
    tool_calls: Annotated[tuple[ToolCall, ...], Slice(Record(ToolCall), "[]api.ToolCall")] = ()
    tool_name: Text = ""
    tool_call_id: Text = ""


Messages = Annotated[tuple[Message, ...], Slice(Custom(Record(Message, "Alias")), "[]api.Message")]


class ToolProperty(Struct, frozen=True, kw_only=True):
    """The schema of one argument; keywords that are not here are dropped."""

    any_of: "Annotated[tuple[ToolProperty, ...], _PROPERTIES]" = field(default=(), name="anyOf")
    type: Annotated[tuple[str, ...], StringOrStrings()] = ()
    items: Anything = None
    description: Text = ""
    enum: Annotated[tuple[Any, ...], Slice(ANY, "[]interface {}")] = ()
    properties: "Annotated[dict[str, ToolProperty] | None, _PROPERTY_MAP]" = None
    required: Strings = ()


_PROPERTY = Record(ToolProperty)
_PROPERTIES = Slice(_PROPERTY, "[]api.ToolProperty")
_PROPERTY_MAP = OrderedMap(_PROPERTY)


class ToolFunctionParameters(Struct, frozen=True, kw_only=True):
    """The arguments that a tool takes; `schema` is all of it as it was sent."""

    type: Text = ""
    defs: Anything = field(default=None, name="$defs")
    items: Anything = None
    required: Strings = ()
    properties: Annotated[dict[str, ToolProperty] | None, _PROPERTY_MAP] = None
    schema: Anything = None


class _Parameters(Record):
    def take(self, node: Node, state: Decoding) -> Any:
        return msgspec.structs.replace(super().take(node, state), schema=ANY.take(node, state))


class ToolFunction(Struct, frozen=True, kw_only=True):
    """A function that a model may call."""

    name: Text = ""
    description: Text = ""
    parameters: Annotated[ToolFunctionParameters, _Parameters(ToolFunctionParameters)] = (
        ToolFunctionParameters()
    )


class Tool(Struct, frozen=True, kw_only=True):
    """A tool that a model may call."""

    type: Text = ""
    items: Anything = None
    function: Annotated[ToolFunction, Record(ToolFunction)] = ToolFunction()


class GenerateRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/generate`.

    `format` is JSON text as it was sent; `None` also for null and for `""`.
    """

    model: Text = ""
    prompt: Text = ""
    suffix: Text = ""
    system: Text = ""
    template: Text = ""
    context: Integers = ()
    stream: MaybeFlag = None
    raw: Flag = False
    format: RawJson = None
    keep_alive: KeepAlive = None
    images: Images = ()
    options: AnyMap = field(default_factory=dict)
    think: Think = None
    truncate: MaybeFlag = None
    shift: MaybeFlag = None
    debug_render_only: Flag = field(default=False, name="_debug_render_only")
    logprobs: Flag = False
    top_logprobs: Integer = 0


class ChatRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/chat`; fields as in `GenerateRequest`. `tool_choice` is a field of our own."""

    model: Text = ""
    messages: Messages = ()
    stream: MaybeFlag = None
    format: RawJson = None
    keep_alive: KeepAlive = None
    tools: Annotated[tuple[Tool, ...], Slice(Record(Tool), "api.Tools")] = ()
    tool_choice: Choice = ToolChoice()
    options: AnyMap = field(default_factory=dict)
    think: Think = None
    truncate: MaybeFlag = None
    shift: MaybeFlag = None
    debug_render_only: Flag = field(default=False, name="_debug_render_only")
    logprobs: Flag = False
    top_logprobs: Integer = 0


class EmbedRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/embed`. `input` is one text a vector; none of it only loads the model."""

    model: Text = ""
    input: Annotated[tuple[str, ...], Checked(_inputs)] = ()
    truncate: MaybeFlag = None
    dimensions: Integer = 0
    keep_alive: KeepAlive = None
    options: AnyMap = field(default_factory=dict)


class EmbeddingRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/embeddings`, the older route."""

    model: Text = ""
    prompt: Text = ""
    keep_alive: KeepAlive = None
    options: AnyMap = field(default_factory=dict)


class ShowRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/show`."""

    model: Text = ""
    name: Text = ""
    system: Text = ""
    template: Text = ""
    verbose: Flag = False
    options: AnyMap = field(default_factory=dict)

    @property
    def target(self) -> str:
        """The model that is meant: `model`, else the older `name`."""
        return self.model or self.name


class CreateRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/create`. `license` is what was sent: a text, a list of texts, or else an error."""

    model: Text = ""
    name: Text = ""
    stream: MaybeFlag = None
    source: Text = field(default="", name="from")
    files: MaybeStringMap = None  # none at all is another mistake than an empty one
    adapters: StringMap = field(default_factory=dict)
    draft_files: StringMap = field(default_factory=dict)
    template: Text = ""
    license: Anything = None
    system: Text = ""
    parameters: AnyMap = field(default_factory=dict)
    messages: Messages = ()
    renderer: Text = ""
    parser: Text = ""
    requires: Text = ""
    info: AnyMap = field(default_factory=dict)
    remote_host: Text = ""
    quantize: Text = ""
    quantization: Text = ""
    draft_quantize: Text = ""
    imatrix: Text = ""  # ours
    insecure: Flag = False  # ours

    @property
    def target(self) -> str:
        """The model that is meant: `model`, else the older `name`."""
        return self.model or self.name

    @property
    def quantize_to(self) -> str:
        """The type to quantize to: `quantize`, else the older `quantization`; or `""`."""
        return self.quantize or self.quantization


class CompareRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/compare`, a route of our own. Null `prompts` are the built-in ones."""

    model_a: Text = ""
    model_b: Text = ""
    prompts: Annotated[tuple[str, ...] | None, Slice(STRING, "[]string")] = None
    max_tokens: Annotated[int | None, INT] = None
    options: AnyMap = field(default_factory=dict)
    options_a: AnyMap = field(default_factory=dict)
    options_b: AnyMap = field(default_factory=dict)
    stream: MaybeFlag = None


class CopyRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/copy`."""

    source: Text = ""
    destination: Text = ""


class DeleteRequest(Struct, frozen=True, kw_only=True):
    """`DELETE /api/delete`."""

    model: Text = ""
    name: Text = ""

    @property
    def target(self) -> str:
        """The model that is meant: `model`, else the older `name`."""
        return self.model or self.name


class GcRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/gc`, a route of our own."""

    dry_run: Flag = False
    all: Flag = False


class LockRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/lock`, a route of our own."""

    models: Strings = ()


class PullRequest(Struct, frozen=True, kw_only=True):
    """`POST /api/pull`; `username` and `password` are accepted and not used."""

    model: Text = ""
    name: Text = ""
    insecure: Flag = False
    username: Text = ""
    password: Text = ""
    locked: Text = ""  # ours: a models.lock that says what the model is to be
    stream: MaybeFlag = None

    @property
    def target(self) -> str:
        """The model that is meant: `model`, else the older `name`."""
        return self.model or self.name


class PushRequest(PullRequest, frozen=True, kw_only=True):
    """`POST /api/push`; fields as in `PullRequest`."""
