"""`/api/lock`, a route of our own: writes down what models are now."""

from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK
from msgspec import Struct

from corral_api.answers import json_response
from corral_api.wire.receive import receive
from corral_api.wire.requests import LockRequest
from corral_kernel.service import Corral


class LockResponse(Struct, frozen=True, kw_only=True):
    """`POST /api/lock`."""

    lock: str  # TOML


@post("/api/lock", status_code=HTTP_200_OK)
async def lock(request: Request[Any, Any, Any], corral: NamedDependency[Corral]) -> Response[bytes]:
    """Lock the named models, or all that the store has."""
    body = await receive(request, LockRequest)
    return json_response(LockResponse(lock=await corral.locking.lock(body.models)))
