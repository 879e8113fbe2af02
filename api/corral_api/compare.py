"""`/api/compare`, a route of our own: two models on the same prompts."""

import contextlib
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from corral_api.answers import json_response
from corral_api.errors import ErrorContext, remember
from corral_api.references import find_model
from corral_api.streaming import LineStream, while_connected
from corral_api.wire.encode import encode_line
from corral_api.wire.receive import receive
from corral_api.wire.requests import CompareRequest
from corral_kernel.models import Model
from corral_kernel.service import Corral
from corral_kernel.tasks.compare import MAX_TOKENS, PROMPTS, CompareCall, CompareResult, Step


@post("/api/compare", status_code=HTTP_200_OK)
async def compare(
    request: Request[Any, Any, Any], corral: NamedDependency[Corral]
) -> Response[bytes]:
    """Compare two models: steps as they are done, then the result."""
    body = await receive(request, CompareRequest)
    streaming = body.stream is not False
    models = [await _find(request, corral, name) for name in (body.model_a, body.model_b)]
    remember(request, ErrorContext(streaming=streaming))
    steps = corral.compare(
        CompareCall(
            models=(models[0], models[1]),
            options=(body.options | body.options_a, body.options | body.options_b),
            prompts=PROMPTS if body.prompts is None else body.prompts,
            max_tokens=MAX_TOKENS if body.max_tokens is None else body.max_tokens,
        )
    )
    if streaming:
        return LineStream(steps, _line, ErrorContext(streaming=True))
    async with while_connected(request.receive), contextlib.aclosing(steps):
        last = [step async for step in steps][-1]
    return json_response(_answer(last))


async def _find(request: Request[Any, Any, Any], corral: Corral, name: str) -> Model:
    """Find a model; a blank name is refused in the words of the chat route."""
    remember(request, ErrorContext(model=name))
    return await find_model(corral, name, "chat")


def _answer(step: Step | CompareResult) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(step)
    return fields if isinstance(step, Step) else {"status": "success", **fields}


def _line(step: Step | CompareResult) -> bytes:
    return encode_line(_answer(step))
