"""`/api/create`: a model made of files, or of another model."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from corral_api.answers import STREAM_JSON, json_response
from corral_api.errors import ErrorContext, RefusalError, remember
from corral_api.streaming import LineStream, while_connected
from corral_api.transfers import progress_line, progress_response
from corral_api.wire import requests
from corral_api.wire.receive import receive
from corral_kernel import store
from corral_kernel.service import Corral
from corral_kernel.store import Progress


@post("/api/create", status_code=HTTP_200_OK)
async def create(
    request: Request[Any, Any, Any], corral: NamedDependency[Corral]
) -> Response[bytes]:
    """Create a model, telling each step."""
    body = await receive(request, requests.CreateRequest)
    streaming = body.stream is not False
    context = ErrorContext("create", body.target)
    remember(request, context)
    wanted = _wanted(body)
    making = corral.create(wanted)
    steps = _Steps(making, await corral.pull_of_base(wanted, insecure=body.insecure))
    context = context._replace(streaming=streaming)
    remember(request, context)
    await steps.begin()
    if streaming:
        return LineStream(steps, progress_line, context)
    async with while_connected(request.receive):
        return json_response(progress_response(await steps.last()), media_type=STREAM_JSON)


class _Steps:
    """The steps of a creation; before them those of a pull, if need be."""

    def __init__(
        self, steps: AsyncGenerator[Progress], pull: AsyncGenerator[Progress] | None
    ) -> None:
        self._steps = steps
        self._pull = pull
        self._first: Progress | None = None

    async def begin(self) -> None:
        """Take the first step; what fails in it has a status of its own."""
        self._first = await self._next()

    async def last(self) -> Progress:
        """Take all steps, and give the last."""
        last = Progress("")
        try:
            async for step in self:
                last = step
        finally:
            await self.aclose()
        return last

    async def __aiter__(self) -> AsyncIterator[Progress]:
        step = self._first
        while step is not None:
            yield step
            step = await self._next()

    async def aclose(self) -> None:
        """Give up what is not done yet, and undo it."""
        try:
            if self._pull is not None:
                await self._pull.aclose()
        finally:
            await self._steps.aclose()

    async def _next(self) -> Progress | None:
        if self._pull is not None:
            step = await anext(self._pull, None)
            if step is not None and step.status != "success":  # that is said once, in the end
                return step
            await self._pull.aclose()
            self._pull = None
        return await anext(self._steps, None)


def _wanted(body: requests.CreateRequest) -> store.CreateRequest:
    return store.CreateRequest(
        model=body.target,
        base=body.source,
        files=body.files,
        adapters=body.adapters,
        template=body.template,
        system=body.system,
        licenses=_licenses(body.license),
        parameters=body.parameters,
        messages=tuple(map(_message, body.messages)),
        requires=body.requires,
        info=body.info,
        draft_files=body.draft_files,
        renderer=body.renderer,
        parser=body.parser,
        remote_host=body.remote_host,
        quantize=body.quantize_to,
        draft_quantize=body.draft_quantize,
        imatrix=body.imatrix,
    )


def _licenses(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,) if given else ()
    if given is None:
        return ()
    if isinstance(given, list) and all(isinstance(text, str) for text in given):
        return tuple(given)
    raise RefusalError(500, "license must be a string or a list of strings")


def _message(message: requests.Message) -> dict[str, Any]:
    fields = msgspec.to_builtins(message)  # images become base64 text
    return {name: value for name, value in fields.items() if value}
