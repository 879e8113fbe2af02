"""What OpenAI-compatible servers send: as much of it as is used, the rest is skipped."""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from corral_kernel.errors import RemoteServerError

T = TypeVar("T")


class TokenChance(Struct, frozen=True):
    """A token and its log-probability."""

    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None
    top_logprobs: list["TokenChance"] | None = None


class Logprobs(Struct, frozen=True):
    """Those of a piece: `content` as chats have it, the three lists as completions do."""

    content: list[TokenChance] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class CalledFunction(Struct, frozen=True):
    """What a call calls; its arguments are JSON text, or a piece of it."""

    name: str | None = None
    arguments: str | None = None


class CallDelta(Struct, frozen=True):
    """A call, or what a piece adds to one."""

    index: int | None = None
    function: CalledFunction = CalledFunction()


class Said(Struct, frozen=True):
    """A message, or what a piece adds to one. Thinking has two names, of which servers use one."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallDelta] | None = None


class Choice(Struct, frozen=True):
    """One of the answers; only the first, index 0, is asked for."""

    index: int = 0
    delta: Said | None = None
    message: Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class PromptDetails(Struct, frozen=True):
    """Of the prompt's tokens."""

    cached_tokens: int | None = None


class Usage(Struct, frozen=True):
    """Tokens that were counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class Chunk(Struct, frozen=True):
    """A piece of a stream, or a whole answer; an error in its place has `error` or `message`."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None
    object: str | None = None


class Vector(Struct, frozen=True):
    """One text's vector: numbers, or base64 of float32 where a server prefers that."""

    embedding: list[float] | str
    index: int | None = None


class Vectors(Struct, frozen=True):
    """The answer to texts."""

    data: list[Vector]
    usage: Usage | None = None


class Listed(Struct, frozen=True):
    """A model that a server has."""

    id: str = ""
    owned_by: str | None = None
    max_model_len: int | None = None
    permissions: list[Any] | None = None


class Listing(Struct, frozen=True):
    """The models that a server has."""

    data: list[Listed] | None = None


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Decode JSON of another server, UTF-8 and types checked.

    Args:
        data: At most what the caller allows.
        kind: The struct.
        what: Words for the error, such as "a piece of the answer".

    Raises:
        RemoteServerError: If it is something else.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteServerError(f"{what} is not what OpenAI's API describes: {error}") from None
