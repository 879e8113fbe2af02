"""`/api/chat`: a conversation, continued."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from corral_api import completions
from corral_api.checks import check_capabilities, check_top_logprobs, refuse_images
from corral_api.completions import Writer, format_of, logprobs_of
from corral_api.errors import ErrorContext, remember
from corral_api.references import find_model
from corral_api.wire import requests
from corral_api.wire.receive import receive
from corral_api.wire.requests import ChatRequest
from corral_api.wire.responses import ChatResponse, ResponseMessage, ToolCall
from corral_api.wire.times import now_text
from corral_kernel.calls import CompletionCall
from corral_kernel.contracts.chat import Message
from corral_kernel.frames import Text
from corral_kernel.models import Model
from corral_kernel.service import Corral


@post("/api/chat", status_code=HTTP_200_OK)
async def chat(request: Request[Any, Any, Any], corral: NamedDependency[Corral]) -> Response[bytes]:
    """Answer a conversation; without messages, load or unload the model."""
    started_ns = time.perf_counter_ns()
    body = await receive(request, ChatRequest)
    context = ErrorContext("chat", body.model, body.format)
    remember(request, context)
    check_top_logprobs(body.top_logprobs)
    model = await find_model(corral, body.model, "chat")
    writer = _ChatWriter(context, started_ns, model)
    call = _call(body, model)
    if not body.messages and body.keep_alive == 0:
        return await completions.unload(corral, call, writer)
    tools = "tools" if body.tools else ""
    has = corral.capabilities_for(call)
    check_capabilities(model, body.model, has, think=body.think, more=tools)
    if not body.messages:
        return await completions.load(request, corral, call, writer)
    if any(message.images for message in body.messages):
        refuse_images(body.model)
    return await completions.answer(request, corral, call, writer, stream=body.stream is not False)


def _call(body: ChatRequest, model: Model) -> CompletionCall:
    return CompletionCall(
        model=model,
        options=body.options,
        keep_alive_ns=body.keep_alive,
        messages=tuple(map(_message, body.messages)),
        think=body.think,
        format=format_of(body.format),
        truncate=body.truncate is not False,
        shift=body.shift,
        logprobs=body.top_logprobs if body.logprobs else None,
        render_only=body.debug_render_only,
        tools=tuple(map(_tool, body.tools)),
        tool_choice=body.tool_choice,
    )


def _tool(tool: requests.Tool) -> dict[str, Any]:
    """Give a tool as OpenAI writes it, with the whole schema of its arguments."""
    function = {
        "name": tool.function.name,
        **({"description": tool.function.description} if tool.function.description else {}),
        "parameters": tool.function.parameters.schema or {},
    }
    items = {} if tool.items is None else {"items": tool.items}
    return {"type": tool.type, **items, "function": function}


def _message(message: requests.Message) -> Message:
    return Message(
        role=message.role,
        content=message.content,
        thinking=message.thinking,
        tool_calls=tuple(msgspec.to_builtins(call) for call in message.tool_calls),
        tool_name=message.tool_name,
        tool_call_id=message.tool_call_id,
    )


class _ChatWriter(Writer):
    def write(
        self,
        text: Text = completions.NOTHING,
        *,
        calls: Sequence[ToolCall] = (),
        done: bool = False,
        **more: Any,
    ) -> Any:
        return ChatResponse(
            model=self.model,
            created_at=now_text(),
            message=ResponseMessage(
                role="" if "debug_info" in more else "assistant",
                content=text.content,
                thinking=text.thinking,
                tool_calls=tuple(calls),
            ),
            done=done,
            logprobs=logprobs_of(text.logprobs),
            **self.place,
            **more,
        )
