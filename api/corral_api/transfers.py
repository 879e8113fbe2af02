"""`/api/pull` and `/api/push`: models from registries, and into them."""

from collections.abc import AsyncGenerator
from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from corral_api.answers import STREAM_JSON, json_response
from corral_api.errors import ErrorContext, Route, blank_model, remember
from corral_api.streaming import LineStream, while_connected
from corral_api.wire.encode import encode_line
from corral_api.wire.receive import receive
from corral_api.wire.requests import PullRequest, PushRequest
from corral_api.wire.responses import ProgressResponse
from corral_kernel.names import split_marker
from corral_kernel.service import Corral
from corral_kernel.store import Progress


@post("/api/pull", status_code=HTTP_200_OK)
async def pull(request: Request[Any, Any, Any], corral: NamedDependency[Corral]) -> Response[bytes]:
    """Fetch a model from its registry, telling each step."""
    body = await receive(request, PullRequest)
    sent = body.target.strip()
    if not sent:
        raise blank_model("pull")
    base, marker = split_marker(sent)
    name = base if marker == "local" else sent  # a cloud marker is part of the name here
    if body.locked:
        steps = await corral.locking.pull_locked(name, body.locked, insecure=body.insecure)
    else:
        steps = corral.locking.pull(name, insecure=body.insecure)
    return await _answer(request, "pull", body, steps)


@post("/api/push", status_code=HTTP_200_OK)
async def push(request: Request[Any, Any, Any], corral: NamedDependency[Corral]) -> Response[bytes]:
    """Put a model into its registry, telling each step."""
    body = await receive(request, PushRequest)
    sent = body.target.strip()
    if not sent:
        raise blank_model("push")
    return await _answer(request, "push", body, corral.transfers.push(sent, insecure=body.insecure))


async def _answer(
    request: Request[Any, Any, Any],
    route: Route,
    body: PullRequest,
    steps: AsyncGenerator[Progress],
) -> Response[bytes]:
    streaming = body.stream is not False
    context = ErrorContext(route, body.target, streaming=streaming)
    remember(request, context)
    if streaming:
        return LineStream(steps, progress_line, context)
    last = Progress("")
    async with while_connected(request.receive):
        try:
            async for step in steps:
                last = step
        finally:
            await steps.aclose()
    return json_response(progress_response(last), media_type=STREAM_JSON)


def progress_response(step: Progress) -> ProgressResponse:
    """Give a step as clients know it."""
    return ProgressResponse(
        status=step.status, digest=step.digest, total=step.total, completed=step.completed
    )


def progress_line(step: Progress) -> bytes:
    """Give a step as a line of a stream."""
    return encode_line(progress_response(step))
