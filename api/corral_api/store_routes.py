"""`/api/copy` and `/api/delete`."""

import asyncio
from typing import Any, Literal

from litestar import Request, Response, delete, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from corral_api.answers import empty_response
from corral_api.errors import ErrorContext, blank_model, invalid_copy, remember
from corral_api.wire.receive import receive
from corral_api.wire.requests import CopyRequest, DeleteRequest
from corral_kernel.errors import InvalidNameError
from corral_kernel.names import ModelName, split_marker
from corral_kernel.service import Corral


@post("/api/copy", status_code=HTTP_200_OK)
async def copy(request: Request[Any, Any, Any], corral: NamedDependency[Corral]) -> Response[bytes]:
    """Give a model a second name."""
    body = await receive(request, CopyRequest)
    remember(request, ErrorContext("copy", body.source))
    source = _copy_name("source", body.source)
    destination = _copy_name("destination", body.destination)
    await asyncio.to_thread(corral.store.copy, source, destination)
    return empty_response()


def _copy_name(what: Literal["source", "destination"], sent: str) -> ModelName:
    try:
        return ModelName.parse(sent.strip())
    except InvalidNameError:
        raise invalid_copy(what, sent) from None


@delete("/api/delete", status_code=HTTP_200_OK)
async def delete_model(
    request: Request[Any, Any, Any], corral: NamedDependency[Corral]
) -> Response[bytes]:
    """Delete a model; one that is loaded goes on until it is unloaded."""
    body = await receive(request, DeleteRequest)
    sent = body.target.strip()
    if not sent:
        raise blank_model("delete")
    remember(request, ErrorContext("delete", body.target))
    base, marker = split_marker(sent)
    # Here a cloud marker is part of the name: a stub of a cloud model is stored under it.
    name = ModelName.parse(sent if marker == "cloud" else base)
    await asyncio.to_thread(corral.store.delete, name)
    return empty_response()
