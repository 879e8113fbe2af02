"""A plugin of the tests: an engine with a loop of its own, which says the words of its prompt.

It claims models on other servers, and those whose parameter `backend` names it. Words that begin
with an exclamation mark are commands; what it was asked is told by `!request`, what became of all
requests by `!counts`.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from corral_kernel.contracts import (
    Backend,
    Claim,
    Ending,
    Engine,
    EngineInfo,
    LoadOptions,
    LoadRequest,
    Piece,
    PieceLogprob,
    TextEngine,
    TextRequest,
    TextVectors,
)
from corral_kernel.errors import RemoteRefusedError
from corral_kernel.fields import fields_of
from corral_kernel.models import Model
from corral_kernel.plugins import hookimpl
from corral_kernel.remotes import RemotePolicy

CORRAL_API_VERSION = 1
NAME = "chatter"
SAMPLING = ("temperature", "top_p")
ELSEWHERE = "is ignored: the model runs elsewhere"


class ChatterOptions(LoadOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the engine."""

    api_key: Annotated[str, Meta(description="where the key is: env:NAME or file:PATH")] = ""
    chatter_takes: Annotated[str, Meta(description="chat or text")] = "chat"
    chatter_breaks: Annotated[bool, Meta(description="its engine is not what it claimed")] = False


@hookimpl
def corral_backends() -> Sequence[Backend]:
    return [Backend(name=NAME, options=ChatterOptions, docs="says its prompt; for tests")]


@hookimpl
def corral_claim(model: Model) -> Claim | None:
    parameters = model.parameters
    if not model.is_remote and parameters.get("backend") != NAME:
        return None
    takes = "text" if parameters.get("chatter_takes") == "text" else "chat"
    key = f"{model.config.remote_host} {parameters.get('api_key', '')} {takes}"
    return Claim(
        backend=NAME,
        confidence=0.5,
        why="it speaks",
        capabilities=tuple(model.config.capabilities or ()) or ("completion",),
        takes=takes,
        sampling=None if parameters.get("chatter_breaks") is False else SAMPLING,
        formats=None if parameters.get("chatter_breaks") is False else ("json",),
        share_key=key,
        slots=256,
        ignored=dict.fromkeys(fields_of(LoadOptions), ELSEWHERE),
        private={"base_url": model.config.remote_host},
    )


@hookimpl
def corral_load(request: LoadRequest) -> Engine:
    return Chatter(request)


class Chatter(TextEngine):
    """Repeats the last message's words, each as a piece, and does what its commands say."""

    sampling = frozenset(SAMPLING)
    formats = frozenset({"json"})

    def __init__(self, request: LoadRequest) -> None:
        options = request.options
        assert isinstance(options, ChatterOptions)
        self.takes = "text" if options.chatter_takes == "text" else "chat"
        if options.chatter_breaks:
            self.takes = "text" if self.takes == "chat" else "chat"
        self._remotes = RemotePolicy(request.remotes)
        self._private = request.claim.private
        self._api_key = options.api_key
        self._counts: dict[str, int] = {"opened": 0, "closed": 0, "cancelled": 0, "most": 0}
        self._given: dict[str, int] = {}
        self.info = EngineInfo(
            capabilities=(*request.claim.capabilities, "embedding"),
            slots=request.slots,
            context_tokens=1000,
        )

    async def generate(self, request: TextRequest) -> AsyncIterator[Piece | Ending]:
        text = request.prompt if request.messages is None else request.messages[-1].content
        words = text.split(" ")
        self._counts["opened"] += 1
        now = self._counts["opened"] - self._counts["closed"]
        self._counts["most"] = max(self._counts["most"], now)
        try:
            given = 0
            for word in words:
                if word.startswith("!"):
                    async for piece in self._command(word, request):
                        yield piece
                else:
                    yield Piece(content=word + " ")
                given += 1
                self._given[words[0]] = given
                await asyncio.sleep(0)
            if "!unending" not in words:
                yield Ending(
                    reason="length" if request.max_tokens == given else "stop",
                    prompt_tokens=len(request.messages or ()) or 1,
                    cached_tokens=1,
                    output_tokens=given,
                )
        except asyncio.CancelledError:
            self._counts["cancelled"] += 1
            if "!stubborn" not in words:
                raise
            while True:  # and goes on all the same
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    yield Piece(content="I will not stop")
        finally:
            self._counts["closed"] += 1

    async def _command(self, word: str, request: TextRequest) -> AsyncIterator[Any]:
        if word in TELLING:
            yield Piece(content=json.dumps(self._told(word, request)))
            return
        await _misbehave(word)
        for piece in PIECES.get(word, ()):
            yield piece

    def _told(self, word: str, request: TextRequest) -> dict[str, Any]:
        if word == "!request":
            return _request(request)
        if word == "!counts":
            return {**self._counts, "given": self._given}
        self._remotes.check_url(self._private["base_url"])
        return {"private": self._private, "api_key": self._api_key, "allowed": True}

    async def embed(
        self, target: str, texts: Sequence[str], dimensions: int, *, truncate: bool
    ) -> TextVectors:
        import numpy as np

        if "!raise" in texts:
            raise RuntimeError("the engine was told to fail")
        if "!hang" in texts:
            await asyncio.Event().wait()
        more = [len(target), dimensions, int(truncate)]
        rows = np.array([[len(text), *more] for text in texts], np.float32)
        if "!nan" in texts:
            rows[0, 0] = np.nan
        if "!few" in texts:
            rows = rows[1:]
        return TextVectors(rows=rows, prompt_tokens=sum(len(text.split()) for text in texts))


async def _misbehave(word: str) -> None:
    match word:
        case "!hang" | "!stubborn":
            await asyncio.Event().wait()
        case "!block":
            time.sleep(3600)  # noqa: ASYNC251 - that is the fault
        case "!die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "!raise":
            raise RuntimeError("the \ud800 engine was told to fail")
        case "!refuse":
            raise RemoteRefusedError("that server does not like it")
        case "!exit":
            sys.exit(3)
        case "!give-up":
            raise asyncio.CancelledError
        case "!stop-loop":
            asyncio.get_running_loop().stop()


def _logprob(token: str, value: float = -0.5) -> PieceLogprob:
    other = PieceLogprob(text="zz", bytes=b"zz", logprob=-1.0)
    return PieceLogprob(text=token, bytes=token.encode(), logprob=value, top=(other, other))


TELLING = ("!request", "!counts", "!load")
PIECES: dict[str, Iterable[Any]] = {
    "!odd": (5,),
    "!no-text": (Piece(content=5),),  # type: ignore[arg-type] # that is the fault
    "!halves": tuple(
        Piece(content=half, thinking=half)
        for half in ("\ud83d", "\ude00", "\ud83d!", "\ude00", "ü")
    ),
    "!think": (Piece(thinking="hm "),),
    "!flood": (Piece(content="x"),) * 100_000,
    "!tokens": (
        Piece(content="al", logprobs=(_logprob("al"),)),
        Piece(content="pha", logprobs=(_logprob("pha"),)),
        Piece(content="be", logprobs=(_logprob("b", float("-inf")), _logprob("e"))),
        Piece(content="ta", logprobs=(_logprob("other"),)),
    ),
}


def _request(request: TextRequest) -> dict[str, Any]:
    messages = None if request.messages is None else msgspec.to_builtins(request.messages)
    return {
        "target": request.target,
        "messages": messages,
        "prompt": request.prompt,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
        "stop": request.stop,
        "sampling": dict(request.sampling),
        "format": request.format.decode(),
        "logprobs": request.logprobs,
    }
