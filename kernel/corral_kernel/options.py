"""Options of requests and of loading: types, defaults, ranges; and how JSON values become them."""

import math
import struct
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from corral_kernel.contracts.backend import LoadOptions
from corral_kernel.errors import InvalidOptionError

T = TypeVar("T", bound=Struct)


class RequestOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options that each request may change; the rest are a backend's `LoadOptions`."""

    num_keep: Annotated[
        int, Meta(description="tokens kept from the start when the window is full; negative: all")
    ] = 4
    seed: Annotated[int, Meta(description="of the draws; -1: a random one")] = -1
    num_predict: Annotated[int, Meta(description="new tokens at most; negative: 10 windows")] = -1
    top_k: Annotated[int, Meta(description="keep the k likeliest tokens; 0 or less: all")] = 40
    top_p: Annotated[float, Meta(description="keep the likeliest tokens of this mass")] = 0.9
    min_p: Annotated[
        float, Meta(description="drop tokens less than this times as likely as the likeliest")
    ] = 0.0
    typical_p: Annotated[float, Meta(description="locally typical mass; 1.0: off")] = 1.0
    repeat_last_n: Annotated[
        int, Meta(description="tokens that penalties look back on; 0: off, -1: the window")
    ] = 64
    temperature: Annotated[float, Meta(description="0: always the likeliest token")] = 0.8
    repeat_penalty: Annotated[float, Meta(description="divisor for seen tokens; 1.0: off")] = 1.0
    presence_penalty: Annotated[float, Meta(description="taken off for any seen token")] = 0.0
    frequency_penalty: Annotated[float, Meta(description="taken off for each time seen")] = 0.0
    # Bounded, since the end of the answer is compared with each after every token.
    stop: Annotated[
        tuple[Annotated[str, Meta(max_length=1024)], ...],
        Meta(max_length=64, description="texts that end the answer"),
    ] = ()


BACKEND_OPTION = "backend"
"""Load-time option of the kernel's own: the name of the backend to use."""

_NAMES = {int: "integer", float: "float32", bool: "boolean", str: "string"}


def coerce(
    given: Mapping[str, Any], backend: type[LoadOptions] = LoadOptions
) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """Check and convert options given by a request or a model's parameters.

    Numbers are interchangeable for integers (truncated toward zero) and floats (rounded to 32
    bits); null is as good as absent.

    Args:
        given: As decoded from JSON.
        backend: The struct of the load options of the backend in charge.

    Returns:
        Request-time fields, load-time fields, and the names that nobody knows.

    Raises:
        InvalidOptionError: For a value of a wrong type, in the API's words.
    """
    request_types, load_types = _plain_types(RequestOptions), _plain_types(backend)
    request: dict[str, Any] = {}
    load: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in given.items():
        if value is None:
            continue
        if name in request_types:
            request[name] = _convert(name, value, request_types[name])
        elif name in load_types:
            load[name] = _convert(name, value, load_types[name])
        elif name == BACKEND_OPTION:
            load[name] = _convert(name, value, str)
        else:
            unknown.append(name)
    return request, load, tuple(unknown)


def build(struct: type[T], fields: Mapping[str, Any]) -> T:
    """Make an options struct of coerced fields, with its ranges checked.

    Raises:
        InvalidOptionError: For a value out of its range.
    """
    try:
        return msgspec.convert(fields, struct, str_keys=True)
    except msgspec.ValidationError as error:
        raise InvalidOptionError(f"option out of range: {error}") from None


_TYPES: dict[type[Struct], dict[str, type]] = {}


def _plain_types(struct: type[Struct]) -> dict[str, type]:
    """Field name to one of int, float, bool, str or tuple, without `Annotated` and `| None`."""
    if struct not in _TYPES:
        hints = get_type_hints(struct)
        _TYPES[struct] = {name: _plain(hint) for name, hint in hints.items()}
    return _TYPES[struct]


def _plain(hint: Any) -> type:
    origin = get_origin(hint)
    if origin is tuple:
        return tuple
    members = [m for m in get_args(hint) if m is not type(None)]
    return _plain(members[0]) if members else hint  # of `X | None`, the X


def _convert(name: str, value: Any, kind: type) -> Any:
    if kind is tuple:
        if not isinstance(value, list | tuple):
            raise InvalidOptionError(f'option "{name}" must be of type array')
        if not all(isinstance(item, str) for item in value):
            raise InvalidOptionError(f'option "{name}" must be of an array of strings')
        return tuple(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int and number and math.isfinite(value):
        return max(-(1 << 63), min((1 << 63) - 1, int(value)))
    if kind is float and number:
        return _float32(value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    raise InvalidOptionError(f'option "{name}" must be of type {_NAMES[kind]}')


def _float32(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
