"""Options of requests and models: who knows which, and their values sorted by whose they are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any

from msgspec import Meta, Struct

from corral_kernel.contracts import LoadOptions, SamplerType
from corral_kernel.errors import InvalidOptionError
from corral_kernel.fields import Field, fields_of


class RequestOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options that the kernel's loop itself goes by; each request may change them."""

    num_keep: Annotated[
        int, Meta(description="tokens kept from the start when the window is full; negative: all")
    ] = 4
    seed: Annotated[int, Meta(description="of the draws; -1: a random one")] = -1
    num_predict: Annotated[
        int, Meta(description="new tokens at most; negative, or more: 10 windows")
    ] = -1
    # Bounded, since the end of the answer is compared with each after every token.
    stop: Annotated[
        tuple[Annotated[str, Meta(max_length=1024)], ...],
        Meta(
            max_length=64,
            description="texts that end the answer; at most 64, each of at most 1024 characters",
        ),
    ] = ()
    think_budget: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="tokens of the thought, which is then closed and answered"),
    ] = None
    constrain_tools: Annotated[
        bool, Meta(description="hold the arguments of calls to the schemas of their tools")
    ] = True
    control_tokens: Annotated[
        bool | None,
        Meta(
            description="control tokens that a prompt or a message spells become those tokens; "
            "unset: in chats they stay text, but for the system's"
        ),
    ] = None


BACKEND = Field("backend", "string", "name of the backend that runs the model", None)
"""Load-time option of the kernel's own."""
SAMPLERS = Field(
    "samplers", "entries", "the chain of samplers in order: names, or objects with a name", None
)
RETIRED = frozenset(
    [
        "embedding_only",
        "f16_kv",
        "logits_all",
        "low_vram",
        # Samplers that a plugin may bring back; without it they are no mistake of the client's.
        "mirostat",
        "mirostat_eta",
        "mirostat_tau",
        "num_gqa",
        "numa",
        "penalize_newline",
        "rope_frequency_base",
        "rope_frequency_scale",
        "tfs_z",
        "use_mlock",
        "vocab_only",
    ]
)
"""Options of the past that clients still send, and that nothing obeys any more."""


@dataclass(slots=True)
class Given:
    """A request's and a model's options, converted and sorted.

    Attributes:
        request: Fields of `RequestOptions`.
        load: Fields of the backend's load options.
        backend: The backend asked for by name.
        flat: Fields of samplers, by their own names.
        nested: Fields of samplers, by the sampler's name, as they came.
        samplers: The chain asked for; its entries as they came.
        unknown: Names that nobody knows.
        retired: Names that nobody obeys any more.
    """

    request: dict[str, Any] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)
    backend: str | None = None
    flat: dict[str, Any] = field(default_factory=dict)
    nested: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    samplers: tuple[Any, ...] | None = None
    unknown: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)


class OptionTable:
    """Every option that counts for one backend.

    Args:
        load: The struct of the backend's load options.
        samplers: Sampler types by name.
    """

    def __init__(self, load: type[LoadOptions], samplers: Mapping[str, SamplerType]) -> None:
        self.request = fields_of(RequestOptions)
        self.load = fields_of(load)
        self.samplers = samplers
        taken = {*self.request, *self.load, BACKEND.name, SAMPLERS.name}
        self.flat: dict[str, Field] = {}
        for name, option in _sampler_fields(samplers):
            # Of two of one name and different types the first serves; the other sampler's is
            # reached through the sampler's name alone.
            if name not in taken:
                self.flat.setdefault(name, option)

    def owns(self, sampler: SamplerType, name: str) -> bool:
        """Whether an option of this name sets the field of a sampler."""
        option = fields_of(sampler.options).get(name)
        return option is not None and name in self.flat and self.flat[name].kind == option.kind

    def sort(self, given: Mapping[str, Any]) -> Given:
        """Convert values and sort them by whose they are; null is as good as absent.

        Args:
            given: As decoded from JSON.

        Raises:
            InvalidOptionError: For a value of a wrong type or range, in the API's words.
        """
        out = Given()
        for name, value in given.items():
            if value is None:
                continue
            if name in self.request:
                out.request[name] = self.request[name].convert(value)
            elif name in self.load:
                out.load[name] = self.load[name].convert(value)
            elif name == BACKEND.name:
                out.backend = BACKEND.convert(value)
            elif name == SAMPLERS.name:
                out.samplers = SAMPLERS.convert(value)
            elif isinstance(value, dict) and self._holds_fields(name, value):
                out.nested[name] = value
            elif name in self.flat:
                out.flat[name] = self.flat[name].convert(value)
            elif name in self.samplers:
                raise InvalidOptionError(f'option "{name}" must be an object of its fields')
            else:
                (out.retired if name in RETIRED else out.unknown).append(name)
        return out

    def _holds_fields(self, name: str, value: Mapping[str, Any]) -> bool:
        """Whether an object is the fields of a sampler, not the value of one that is an object."""
        sampler = self.samplers.get(name)
        if sampler is None or name not in self.flat or self.flat[name].kind != "object":
            return sampler is not None
        return bool(value) and fields_of(sampler.options).keys() >= value.keys()

    def guess(self, name: str) -> str:
        """What a misspelt option may have meant, in words to append; empty: no idea."""
        known = (*self.request, *self.load, *self.flat, *self.samplers, SAMPLERS.name, BACKEND.name)
        near = get_close_matches(name[:100], known, n=1, cutoff=0.75)
        return f'; did you mean "{near[0]}"?' if near else ""


def _sampler_fields(samplers: Mapping[str, SamplerType]) -> Iterator[tuple[str, Field]]:
    for sampler in samplers.values():
        yield from fields_of(sampler.options).items()
