"""The engine: requests to another server, its answers as pieces of text."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import numpy as np

from corral_kernel.contracts import EngineInfo
from corral_kernel.contracts.text import Ending, Piece, TextEngine, TextRequest, TextVectors
from corral_kernel.errors import RemoteServerError, RemoteTimeoutError
from corral_remote import asking, embedding
from corral_remote.asking import Manners
from corral_remote.client import EVENTS, Answer, Client, RefusedFieldError
from corral_remote.failures import AgainError
from corral_remote.hearing import Heard
from corral_remote.places import Limits, Patience
from corral_remote.sse import EventReader

_JSON: Final = "application/json"
_WHOLE_BYTES: Final = 8 << 20  # of an answer that is not streamed; a token's chances take 3 kB
_TAIL_S: Final = 5.0  # for the usage that may follow the finish reason


class RemoteEngine(TextEngine):
    """One server. Any number of its models, and of requests at once.

    Args:
        info: What it is.
        connect: Makes the client; asked in the event loop, at the first request.
        limits: Of time.
        manners: How the server wants to be asked, as far as that is known.
    """

    takes = "chat"
    sampling = asking.SAMPLING
    formats = asking.FORMATS

    def __init__(
        self,
        info: EngineInfo,
        connect: Callable[[], Client],
        limits: Limits,
        manners: Manners | None = None,
    ) -> None:
        self.info = info
        self._connect = connect
        self._limits = limits
        self._manners = manners or Manners()
        self._open: Client | None = None

    @property
    def _client(self) -> Client:
        if self._open is None:
            self._open = self._connect()
        return self._open

    async def generate(self, request: TextRequest) -> AsyncGenerator[Piece | Ending]:
        """Answer. What fails before the first piece is tried again, within the limits."""
        patience = Patience(self._limits)
        began = False
        while True:
            path, body = self._ask(request)
            try:
                async with aclosing(self._answer(path, body, request.logprobs)) as pieces:
                    async for piece in pieces:
                        began = True
                        yield piece
            except RefusedFieldError:
                self._manners.usage = False
            except AgainError as failure:
                if began:
                    raise failure.error from None
                await patience.wait(failure)
            else:
                return

    def _ask(self, request: TextRequest) -> tuple[str, dict[str, Any]]:
        if request.messages is None:
            return "/completions", asking.completion(request, self._manners)
        return "/chat/completions", asking.chat(request, self._manners)

    async def _answer(
        self, path: str, body: dict[str, Any], top: int | None
    ) -> AsyncGenerator[Piece | Ending]:
        """Ask once."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._limits.first_s
        try:
            answer = await self._client.send("POST", path, body, until)
        except TimeoutError:
            raise self._late(began=False) from None
        try:
            heard = Heard(self._client.where, top, self._client.scrub)
            async with aclosing(self._pieces(answer, heard, until)) as pieces:
                async for piece in pieces:
                    yield piece
            ending = heard.ending()
            if heard.done:
                await answer.drain()
        finally:
            await answer.aclose()
        if calls := heard.calls():
            yield calls
        yield ending

    async def _pieces(self, answer: Answer, heard: Heard, until: float) -> AsyncGenerator[Piece]:
        """Give the pieces of one answer until it is over; `heard` then knows how it ended."""
        if answer.content_type == _JSON:  # a server that does not stream
            if piece := heard.take(await self._whole(answer, until)):
                yield piece
            return
        self._check_type(answer)
        clock = asyncio.get_running_loop().time
        reader = EventReader()
        began = False
        data = b""
        while not heard.done:
            ended = heard.ended()
            try:
                data = await answer.read(until)
            except (TimeoutError, AgainError) as error:
                if ended:  # all that was missing is the usage
                    return
                raise (
                    self._late(began=began) if isinstance(error, TimeoutError) else error
                ) from None
            for event in reader.feed(data) if data else reader.finish():
                if piece := heard.take(event):
                    began = True
                    yield piece
                    until = clock() + self._limits.silence_s
            if not data:
                return
            if heard.ended() and not ended:
                until = clock() + _TAIL_S

    async def _whole(self, answer: Answer, until: float) -> bytes:
        try:
            return await answer.read_all(_WHOLE_BYTES, until)
        except TimeoutError:
            raise self._late(began=False) from None

    def _check_type(self, answer: Answer) -> None:
        if answer.content_type not in (EVENTS, ""):
            raise RemoteServerError(
                f"{self._client.where} answers with {answer.content_type!r:.100}, not with a "
                f"stream of events: is that the base URL of an OpenAI-compatible server?"
            )

    def _late(self, *, began: bool) -> RemoteTimeoutError:
        where, limits = self._client.where, self._limits
        if began:
            return RemoteTimeoutError(
                f"{where} fell silent in mid-answer for {limits.silence_s:g} s "
                "(remote_silence_timeout)"
            )
        return RemoteTimeoutError(
            f"{where} gave no token within {limits.first_s:g} s (remote_first_timeout)"
        )

    async def embed(
        self, target: str, texts: Sequence[str], dimensions: int, *, truncate: bool
    ) -> TextVectors:
        """Make vectors, in batches; a text that is too long is the other server's affair."""
        del truncate
        batches = [
            await self._embed(target, texts[start : start + embedding.BATCH_TEXTS])
            for start in range(0, len(texts), embedding.BATCH_TEXTS)
        ]
        if len({batch.rows.shape[1] for batch in batches}) != 1:
            raise RemoteServerError(f"{self._client.where} gave vectors of unequal lengths")
        rows = np.concatenate([batch.rows for batch in batches])
        return TextVectors(
            rows=rows[:, :dimensions] if dimensions else rows,
            prompt_tokens=sum(batch.prompt_tokens for batch in batches),
        )

    async def _embed(self, target: str, texts: Sequence[str]) -> TextVectors:
        patience = Patience(self._limits)
        body = embedding.body(target, texts)
        while True:
            try:
                data = await self._post(body)
            except AgainError as failure:
                await patience.wait(failure)
            else:
                return embedding.read(data, self._client.where, len(texts))

    async def _post(self, body: dict[str, Any]) -> bytes:
        until = asyncio.get_running_loop().time() + self._limits.first_s
        try:
            answer = await self._client.send("POST", "/embeddings", body, until)
            try:
                return await answer.read_all(embedding.ANSWER_BYTES, until)
            finally:
                await answer.aclose()
        except TimeoutError:
            raise RemoteTimeoutError(
                f"{self._client.where} gave no vectors within {self._limits.first_s:g} s "
                "(remote_first_timeout)"
            ) from None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._open is not None:
            await self._open.aclose()
