"""What the instructions of a Modelfile mean: which accumulate, and of which the last counts."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from corral_kernel.modelfile.grammar import LARGEST_SHOWN, Instruction, ModelfileError
from corral_kernel.modelfile.parameters import (
    DEPRECATED_PARAMETERS,
    KNOWN_PARAMETERS,
    ParameterTypes,
    ParameterValue,
    set_parameter,
)


class Message(Struct, frozen=True):
    """An example message of a model."""

    role: str
    content: str


class Modelfile(Struct, frozen=True, kw_only=True):
    """What a Modelfile says. Texts that it does not give are empty."""

    sources: tuple[str, ...]  # FROM, in order; at least one
    adapter: str = ""
    drafts: tuple[str, ...] = ()
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, ParameterValue] = MappingProxyType({})
    messages: tuple[Message, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""  # a version without its `v`
    deprecated: tuple[str, ...] = ()  # parameters that were given and mean nothing any more


def interpret(
    instructions: Iterable[Instruction], types: ParameterTypes = KNOWN_PARAMETERS
) -> Modelfile:
    """Gather instructions: some accumulate, of the others the last one counts.

    Args:
        instructions: In order.
        types: Of all parameters that there are; a deprecated one among them is none.

    Raises:
        ModelfileError: For a parameter that nobody knows or a value of a wrong type.
    """
    many: dict[str, list[str]] = {key: [] for key in ("from", "draft", "license")}
    last: dict[str, str] = {}
    parameters: dict[str, ParameterValue] = {}
    messages: list[Message] = []
    deprecated: list[str] = []
    for keyword, value, name in ((i.keyword, i.value, i.name) for i in instructions):
        if keyword in many:
            many[keyword].append(value)
        elif keyword == "message":
            messages.append(Message(name, value))
        elif keyword != "parameter":
            last[keyword] = value
        elif name in DEPRECATED_PARAMETERS and name not in types:
            deprecated.append(name)
        else:
            set_parameter(parameters, name, value, types)
    return Modelfile(
        sources=tuple(many["from"]),
        adapter=last.get("adapter", ""),
        drafts=tuple(many["draft"]),
        licenses=tuple(many["license"]),
        template=last.get("template", ""),
        system=last.get("system", ""),
        renderer=last.get("renderer", ""),
        parser=last.get("parser", ""),
        requires=_version(last["requires"]) if "requires" in last else "",
        parameters=MappingProxyType(parameters),
        messages=tuple(messages),
        deprecated=tuple(deprecated),
    )


_PRERELEASE: Final = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER: Final = re.compile(
    r"(0|[1-9][0-9]*)"
    r"(\.(0|[1-9][0-9]*)"
    r"(\.(0|[1-9][0-9]*)"
    rf"(-{_PRERELEASE}(\.{_PRERELEASE})*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?)?"
)


def is_version(text: str) -> bool:
    """Tell whether REQUIRES takes a text, with its `v` or without."""
    version = text.removeprefix("v")
    return len(version) <= LARGEST_SHOWN and _SEMVER.fullmatch(version) is not None


def _version(text: str) -> str:
    if not is_version(text):
        raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
    return text.removeprefix("v")
