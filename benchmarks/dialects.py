"""How a completion is asked for, and what its lines say, in the API of each server."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.client import Reply, RequestFailedError, ask

Message = dict[str, str]
_DATA: Final = b"data:"


@dataclass(frozen=True)
class Answer:
    """A completion as its client saw it. Times are seconds since the request was sent.

    Attributes:
        text: What was written.
        first_s: Until its first piece.
        end_s: Until its last line.
        tokens: Tokens written, by the server's count where it gives one.
        prompt_tokens: Of the prompt; 0 where the server does not say.
    """

    text: str
    first_s: float
    end_s: float
    tokens: int
    prompt_tokens: int

    @property
    def token_s(self) -> float:
        """Seconds a token after the first piece."""
        return (self.end_s - self.first_s) / max(1, self.tokens - 1)


@dataclass(frozen=True)
class Line:
    """What one line of a stream adds to an answer."""

    text: str = ""
    tokens: int = 0
    prompt_tokens: int = 0


LineReader = Callable[[bytes], Line | None]
"""Reads one line of a stream; None: it says nothing."""


class Dialect(ABC):
    """Asks one server; all requests are greedy and streamed."""

    @abstractmethod
    async def complete(self, port: int, prompt: str, tokens: int) -> Answer:
        """Have a plain text continued by at most `tokens` tokens."""

    @abstractmethod
    async def chat(
        self,
        port: int,
        messages: Sequence[Message],
        tokens: int,
        schema: dict[str, Any] | None = None,
    ) -> Answer:
        """Have a conversation continued, with JSON by a schema where one is given."""


class Ollama(Dialect):
    """Corral's own.

    Args:
        model: Name of the model.
        options: Sent with every request: those that loading depends on, and what shall not be as
            `Dialect` says.
    """

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        self._model = model
        self._options = options

    async def complete(self, port: int, prompt: str, tokens: int) -> Answer:
        """See `Dialect`."""
        return await self._ask(port, "/api/generate", tokens, prompt=prompt, raw=True)

    async def chat(
        self,
        port: int,
        messages: Sequence[Message],
        tokens: int,
        schema: dict[str, Any] | None = None,
    ) -> Answer:
        """See `Dialect`."""
        more = {} if schema is None else {"format": schema}
        return await self._ask(port, "/api/chat", tokens, messages=list(messages), **more)

    async def one_token(self, port: int, value_json: bytes, field: str = "format") -> None:
        """Have a prompt answered by a token, held to a format or put into a template.

        Args:
            port: Of the server.
            value_json: The field's value, as it goes over the wire: it need not be JSON.
            field: Of the request: `format` or `template`.

        Raises:
            RequestFailedError: With its status, if the value is refused.
        """
        options = self._options | {"temperature": 0, "num_predict": 1}
        body = {"model": self._model, "options": options, "stream": False, "prompt": "It is"}
        head = json.dumps(body).encode().removesuffix(b"}")
        await ask(port, "/api/generate", b'%s, "%s": %s}' % (head, field.encode(), value_json))

    async def unload(self, port: int) -> None:
        """Have the model unloaded as soon as it is idle."""
        await ask(port, "/api/generate", {"model": self._model, "keep_alive": 0})

    async def _ask(self, port: int, path: str, tokens: int, **fields: Any) -> Answer:
        greedy = {"temperature": 0, "repeat_penalty": 1, "num_predict": tokens}
        options = greedy | self._options
        body = {"model": self._model, "options": options, "stream": True, **fields}
        return answer(await ask(port, path, body), read_ollama)


class OpenAi(Dialect):
    """The peers'."""

    async def complete(self, port: int, prompt: str, tokens: int) -> Answer:
        """See `Dialect`."""
        return await self._ask(port, "/v1/completions", tokens, prompt=prompt)

    async def chat(
        self,
        port: int,
        messages: Sequence[Message],
        tokens: int,
        schema: dict[str, Any] | None = None,
    ) -> Answer:
        """See `Dialect`; llama.cpp makes a GBNF grammar of the schema."""
        more: dict[str, Any] = {}
        if schema is not None:
            more["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            }
        path = "/v1/chat/completions"
        return await self._ask(port, path, tokens, messages=list(messages), **more)

    async def _ask(self, port: int, path: str, tokens: int, **fields: Any) -> Answer:
        body = {
            "max_tokens": tokens,
            "temperature": 0,
            "repeat_penalty": 1,
            "stream": True,
            "stream_options": {"include_usage": True},
            **fields,
        }
        return answer(await ask(port, path, body), read_openai)


def answer(reply: Reply, read: LineReader) -> Answer:
    """Put an answer together.

    Raises:
        RequestFailedError: If the stream holds an error, or no text at all.
    """
    text = ""
    first_at = 0.0
    pieces = tokens = prompt_tokens = 0
    for moment, raw in reply.lines:
        line = read(raw)
        if line is None:
            continue
        if line.text:
            first_at = first_at or moment
            pieces += 1
        text += line.text
        tokens = line.tokens or tokens
        prompt_tokens = line.prompt_tokens or prompt_tokens
    if not pieces:
        raise RequestFailedError("an answer without any text")
    sent_at = reply.sent_at
    return Answer(
        text, first_at - sent_at, reply.ended_at - sent_at, tokens or pieces, prompt_tokens
    )


def read_ollama(raw: bytes) -> Line | None:
    """Read one line of `/api/generate` or `/api/chat`."""
    line = _decoded(raw)
    text = line.get("response") or line.get("message", {}).get("content", "")
    return Line(text, line.get("eval_count", 0), line.get("prompt_eval_count", 0))


def read_openai(raw: bytes) -> Line | None:
    """Read one event of `/v1/completions` or `/v1/chat/completions`; None: it says nothing."""
    if not raw.startswith(_DATA) or raw.removeprefix(_DATA).strip() == b"[DONE]":
        return None
    event = _decoded(raw.removeprefix(_DATA))
    choice: dict[str, Any] = next(iter(event.get("choices") or ()), {})
    text = choice.get("text") or choice.get("delta", {}).get("content") or ""
    usage = event.get("usage") or {}
    return Line(text, usage.get("completion_tokens", 0), usage.get("prompt_tokens", 0))


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        line = json.loads(raw)
    except ValueError:
        raise RequestFailedError(f"a line that is no JSON: {raw[:200]!r}") from None
    if not isinstance(line, dict) or "error" in line:
        raise RequestFailedError(f"an error in the stream: {raw[:300]!r}")
    return line
