"""`/api/embed` and the older `/api/embeddings`: vectors of texts."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK
from msgspec import Raw

from corral_api.answers import json_response
from corral_api.errors import ErrorContext, remember
from corral_api.references import find_exactly, find_model
from corral_api.streaming import while_connected
from corral_api.wire import vectors
from corral_api.wire.receive import receive
from corral_api.wire.requests import EmbeddingRequest, EmbedRequest
from corral_api.wire.responses import EmbeddingResponse, EmbedResponse
from corral_kernel.calls import EncodeCall
from corral_kernel.completion import Encoding
from corral_kernel.service import Corral

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NONE = Raw(b"[]")


@post("/api/embed", status_code=HTTP_200_OK)
async def embed(
    request: Request[Any, Any, Any], corral: NamedDependency[Corral]
) -> Response[bytes]:
    """Give a normalised vector for each text; without texts, load the model."""
    started_ns = time.perf_counter_ns()
    body = await receive(request, EmbedRequest)
    remember(request, ErrorContext("embed", body.model))
    call = EncodeCall(
        model=await find_model(corral, body.model, "embed"),
        options=body.options,
        keep_alive_ns=body.keep_alive,
        texts=body.input,
        truncate=body.truncate is not False,
        dimensions=max(0, body.dimensions),
    )
    async with while_connected(request.receive):
        if not call.texts:
            warnings = await corral.load(call)
            return json_response(
                EmbedResponse(model=body.model, embeddings=_NONE, warnings=warnings)
            )
        encoding = await corral.encode(call)
    # In a thread: writing a million numbers takes a while.
    return await asyncio.to_thread(_embed_answer, body.model, encoding, started_ns)


def _embed_answer(model: str, encoding: Encoding, started_ns: int) -> Response[bytes]:
    answer = EmbedResponse(
        model=model,
        embeddings=vectors.float32_rows(_rows(encoding)),
        total_duration=time.perf_counter_ns() - started_ns,
        load_duration=encoding.load_ns,
        prompt_eval_count=encoding.prompt_tokens,
        warnings=encoding.warnings,
    )
    return json_response(answer)


@post("/api/embeddings", status_code=HTTP_200_OK)
async def embeddings(
    request: Request[Any, Any, Any], corral: NamedDependency[Corral]
) -> Response[bytes]:
    """Give the vector of one text as the model makes it; without a text, load the model."""
    body = await receive(request, EmbeddingRequest)
    remember(request, ErrorContext("embeddings", body.model))
    call = EncodeCall(
        model=await find_exactly(corral, body.model, "embeddings"),
        options=body.options,
        keep_alive_ns=body.keep_alive,
        texts=(body.prompt,) if body.prompt else (),
        truncate=False,
        normalize=False,
    )
    async with while_connected(request.receive):
        if not call.texts:
            warnings = await corral.load(call)
            return json_response(EmbeddingResponse(embedding=_NONE, warnings=warnings))
        encoding = await corral.encode(call)
    row = vectors.widened_row(_rows(encoding)[0])
    return json_response(EmbeddingResponse(embedding=row, warnings=encoding.warnings))


def _rows(encoding: Encoding) -> "NDArray[np.float32]":
    import numpy as np  # with the first vector: a server that makes none stays small

    return np.frombuffer(encoding.data, dtype="<f4").reshape(encoding.count, encoding.dim)
