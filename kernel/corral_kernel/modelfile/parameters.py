"""The parameters of a Modelfile: which there are, and how the text of one becomes a value."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

import msgspec

from corral_kernel.gotext import parse_bool, parse_float32, parse_int64
from corral_kernel.modelfile.grammar import LARGEST_SHOWN, ModelfileError

ParameterValue = int | float | bool | str | list[Any] | dict[str, Any]

ParameterTypes = Mapping[str, str]
"""Types of parameters by name: `integer`, `float32`, `boolean` or `string`; `array`, of which each
line gives one text; `entries`, the same but of texts and JSON objects; `object` for any JSON."""

_INTEGERS: Final = (
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "repeat_last_n",
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "draft_num_predict",
)
_FLOATS: Final = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)
OLLAMA_OPTIONS: Final[ParameterTypes] = MappingProxyType(
    dict.fromkeys(_INTEGERS, "integer")
    | dict.fromkeys(_FLOATS, "float32")
    | {"use_mmap": "boolean", "stop": "array"}
)
"""The options that Ollama has."""

KNOWN_PARAMETERS: Final[ParameterTypes] = MappingProxyType({**OLLAMA_OPTIONS, "backend": "string"})
"""Those that need no server to be asked for more."""

DEPRECATED_PARAMETERS: Final = frozenset(
    {
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    }
)


def parse_parameter(
    name: str, text: str, types: ParameterTypes = KNOWN_PARAMETERS
) -> ParameterValue:
    """Read one value of a parameter, `PARAMETER name text`.

    Args:
        name: Of the parameter.
        text: Of its value.
        types: Of all parameters that there are.

    Returns:
        What the parameter's type is; floats have 32 bits. A list gives one of its items.

    Raises:
        ModelfileError: For an unknown name or a value of a wrong type.
    """
    if name not in types:
        near = get_close_matches(name[:LARGEST_SHOWN], types, n=1, cutoff=0.75)
        guess = f"; did you mean '{near[0]}'?" if near else ""
        raise ModelfileError(f"unknown parameter '{name[:LARGEST_SHOWN]}'{guess}")
    kind, read = _READERS[types[name]]
    try:
        return read(text)
    except (ValueError, RecursionError):
        shown = text[:LARGEST_SHOWN]
        raise ModelfileError(f"invalid {kind} value [{shown}]") from None


def set_parameter(
    parameters: dict[str, ParameterValue], name: str, text: str, types: ParameterTypes
) -> None:
    """Read one value of a parameter and keep it: a list grows, else the last one counts.

    Raises:
        ModelfileError: For an unknown name or a value of a wrong type.
    """
    value = parse_parameter(name, text, types)
    if types[name] in LISTS:
        items = parameters.setdefault(name, [])
        if isinstance(items, list):
            items.append(value)
        return
    parameters[name] = value


LISTS: Final = frozenset({"array", "entries"})


def _integer(text: str) -> int:
    try:
        return parse_int64(text)
    except ValueError:
        # As a printed Modelfile has integers from a million on: 1.048576e+06.
        number = float(text) if "e+" in text else 0.5
        if not number.is_integer():
            raise
        return parse_int64(str(int(number)))


def _entry(text: str) -> ParameterValue:
    return _json(text) if text.startswith("{") else text


def _json(text: str) -> Any:
    return msgspec.json.decode(text)  # its errors are ValueErrors


_READERS: Final[Mapping[str, tuple[str, Callable[[str], ParameterValue]]]] = MappingProxyType(
    {
        "integer": ("int", _integer),
        "float32": ("float", parse_float32),
        "boolean": ("bool", parse_bool),
        "string": ("string", str),
        "array": ("string", str),
        "entries": ("JSON", _entry),
        "object": ("JSON", _json),
    }
)
