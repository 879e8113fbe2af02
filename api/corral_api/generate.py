"""`/api/generate`: one prompt, continued."""

import time
from collections.abc import Sequence
from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from corral_api import completions
from corral_api.checks import (
    check_capabilities,
    check_top_logprobs,
    refuse_image_generation,
    refuse_images,
)
from corral_api.completions import Writer, format_of, logprobs_of
from corral_api.errors import ErrorContext, remember
from corral_api.references import find_model
from corral_api.wire.receive import receive
from corral_api.wire.requests import GenerateRequest
from corral_api.wire.responses import GenerateResponse, ToolCall
from corral_api.wire.times import now_text
from corral_kernel.calls import CompletionCall
from corral_kernel.errors import InvalidRequestError
from corral_kernel.frames import Done, Text
from corral_kernel.models import Model
from corral_kernel.service import Corral


@post("/api/generate", status_code=HTTP_200_OK)
async def generate(
    request: Request[Any, Any, Any], corral: NamedDependency[Corral]
) -> Response[bytes]:
    """Complete a prompt; without one, load or unload the model."""
    started_ns = time.perf_counter_ns()
    body = await receive(request, GenerateRequest)
    context = ErrorContext("generate", body.model, body.format)
    remember(request, context)
    check_top_logprobs(body.top_logprobs)
    model = await find_model(corral, body.model, "generate")
    writer = _GenerateWriter(context, started_ns, model)
    call = _call(body, model)
    if not body.prompt and body.keep_alive == 0:
        return await completions.unload(corral, call, writer)
    _check(body, model, corral.capabilities_for(call))
    if not body.prompt:
        return await completions.load(request, corral, call, writer)
    return await completions.answer(request, corral, call, writer, stream=body.stream is not False)


def _check(body: GenerateRequest, model: Model, has: tuple[str, ...]) -> None:
    refuse_image_generation(model)
    if body.raw and (body.template or body.system or body.context):
        raise InvalidRequestError("raw mode does not support template, system, or context")
    insert = "insert" if body.suffix else ""
    check_capabilities(model, body.model, has, think=body.think, more=insert)
    if body.prompt and body.images:
        refuse_images(body.model)


def _call(body: GenerateRequest, model: Model) -> CompletionCall:
    return CompletionCall(
        model=model,
        options=body.options,
        keep_alive_ns=body.keep_alive,
        prompt=body.prompt,
        system=body.system or None,
        template=body.template,
        suffix=body.suffix,
        think=body.think,
        raw=body.raw,
        context_ids=body.context,
        format=format_of(body.format),
        truncate=body.truncate is not False,
        shift=body.shift,
        logprobs=body.top_logprobs if body.logprobs else None,
        render_only=body.debug_render_only,
    )


class _GenerateWriter(Writer):
    calls_at_end = True

    def write(
        self,
        text: Text = completions.NOTHING,
        *,
        calls: Sequence[ToolCall] = (),
        done: bool = False,
        **more: Any,
    ) -> Any:
        return GenerateResponse(
            model=self.model,
            created_at=now_text(),
            response=text.content,
            thinking=text.thinking,
            done=done,
            tool_calls=tuple(ToolCall(function=call.function) for call in calls),
            logprobs=logprobs_of(text.logprobs),
            **self.place,
            **more,
        )

    def end_fields(self, done: Done) -> dict[str, Any]:
        return {"context": done.token_ids}
