"""Requests as OpenAI-compatible servers take them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from corral_kernel.contracts.text import TextRequest
from corral_kernel.errors import InvalidFormatError, UnsupportedError
from corral_remote.tools import messages_of, think_fields, tool_fields

JSON, SCHEMA = "json", "schema"
FORMATS: Final = frozenset({JSON, SCHEMA})

_SAMPLING: Final[dict[str, tuple[str, ...]]] = {
    # OpenAI's own.
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "frequency_penalty": ("frequency_penalty",),
    "presence_penalty": ("presence_penalty",),
    # Of vLLM, SGLang and llama.cpp's servers, which skip the name that they do not know.
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "repeat_penalty": ("repetition_penalty", "repeat_penalty"),
}
SAMPLING: Final = frozenset(_SAMPLING)
_SCHEMA_TYPES: Final = frozenset(
    {"object", "array", "string", "number", "integer", "boolean", "null"}
)


@dataclass(slots=True)
class Manners:
    """How one server wants to be asked, as far as it was found out.

    Attributes:
        usage: It takes `stream_options`.
        llama_python: It is llama-cpp-python's server: no negative `top_k`, and a schema stands
            in `json_object`.
    """

    usage: bool = True
    llama_python: bool = False


def chat(request: TextRequest, manners: Manners) -> dict[str, Any]:
    """Make the body of `/chat/completions`.

    Raises:
        UnsupportedError: For options that this backend does not forward.
        InvalidFormatError: For a format that is neither `json` nor a schema.
    """
    assert request.messages is not None
    body = _common(request, manners)
    body["messages"] = list(messages_of(request.messages))
    body |= tool_fields(request) | think_fields(request)
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.logprobs}
    if request.format:
        body["response_format"] = _response_format(request.format, manners)
    return body


def completion(request: TextRequest, manners: Manners) -> dict[str, Any]:
    """Make the body of `/completions`.

    Raises:
        UnsupportedError: For a format: most servers pass it over in silence on this route.
    """
    if request.format:
        raise UnsupportedError(
            "a format works in chats alone on a remote model: leave out raw, or the format"
        )
    body = _common(request, manners)
    body["prompt"] = request.prompt
    # Left out it means 16 on this route; null means as many as there is room for.
    body["max_tokens"] = request.max_tokens
    if request.logprobs is not None:
        body["logprobs"] = request.logprobs
    return body


def _common(request: TextRequest, manners: Manners) -> dict[str, Any]:
    body: dict[str, Any] = {"model": request.target, "stream": True}
    if manners.usage:
        body["stream_options"] = {"include_usage": True}
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    return body | _sampling(request.sampling, manners)


def _sampling(given: Mapping[str, Any], manners: Manners) -> dict[str, Any]:
    strange = sorted(given.keys() - SAMPLING)
    if strange:
        raise UnsupportedError(f"a remote model takes no option {', '.join(strange)}")
    body = {there: value for name, value in given.items() for there in _SAMPLING[name]}
    if body.get("top_k", 1) <= 0:  # all tokens
        body["top_k"] = 0 if manners.llama_python else -1
    return body


def _response_format(given: bytes, manners: Manners) -> dict[str, Any]:
    spec: Any = msgspec.json.decode(given)
    if spec == JSON:
        return {"type": "json_object"}
    kind = spec.get("type", "object") if isinstance(spec, dict) else spec
    if not isinstance(spec, dict) or (isinstance(kind, str) and kind not in _SCHEMA_TYPES):
        raise InvalidFormatError(
            f'the format {kind!r} does not work with remote models: "json" and JSON Schemas do'
        )
    if manners.llama_python:
        return {"type": "json_object", "schema": spec}
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": spec, "strict": True},
    }
