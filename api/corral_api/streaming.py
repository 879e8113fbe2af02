"""Answers that are sent line by line while they are made, and clients that leave meanwhile.

A handler opens its source first (that is where everything fails that has a status), and returns
`LineStream(source, encode)`. The source is closed in every case: when it ends, when it fails, when
the client goes away in the middle.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Protocol, TypeVar, cast

from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from corral_api.answers import NDJSON
from corral_api.errors import ErrorContext, error_line
from corral_kernel.errors import CancelledJobError, CorralError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """Events that come one by one; must be closed, and may be closed twice."""

    def __aiter__(self) -> AsyncIterator[T_co]:
        """Give the events. A `CorralError` in between ends them."""
        ...

    async def aclose(self) -> None:
        """Cancel what is not done yet."""


class LineStream(Response[bytes], Generic[T]):
    """NDJSON out of a source of events.

    Args:
        source: Already open.
        encode: Makes the lines of one event: none, one or several, each with its newline.
        context: For the words of an error in the middle.
    """

    def __init__(
        self, source: Source[T], encode: Callable[[T], bytes], context: ErrorContext
    ) -> None:
        super().__init__(b"", media_type=NDJSON)
        self._sender = _LineSender(source, encode, context)

    def to_asgi_response(
        self,
        app: Any,  # noqa: ARG002 - as the base class has it
        request: Request[Any, Any, Any],  # noqa: ARG002 - likewise
        **_options: Any,
    ) -> ASGIResponse:
        """Give the ASGI application that sends the answer."""
        return self._sender


class _LineSender(ASGIResponse):
    _should_set_content_length = False

    def __init__(
        self, source: Source[Any], encode: Callable[[Any], bytes], context: ErrorContext
    ) -> None:
        super().__init__(media_type=NDJSON)
        self._source = source
        self._encode = encode
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except CancelledJobError:
            return  # the client left: nobody is there who could be told
        finally:
            await self._source.aclose()

    async def send_body(self, send: Send, receive: Receive) -> None:
        encode = self._encode
        async with while_connected(receive):
            try:
                async for event in self._source:
                    if lines := encode(event):
                        await send({"type": "http.response.body", "body": lines, "more_body": True})
            except CorralError as error:
                line = error_line(error, self._context)
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextlib.asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel what is done inside as soon as the client goes away.

    The request's body must have been read: from then on the server tells of nothing but the end of
    the connection.

    Raises:
        CancelledJobError: If the client went away.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())  # a coroutine runs in one
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    cancels_before = task.cancelling()
    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        # As asyncio.timeout does it: only our own cancelling becomes an error of ours.
        if gone and task.uncancel() <= cancels_before:
            raise CancelledJobError("request canceled") from None
        raise
    finally:
        watcher.cancel()
