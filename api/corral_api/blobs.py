"""`/api/blobs/:digest`: whether a blob is there, and bringing one. Never held in memory."""

import asyncio
from typing import Any, Final

from litestar import Request, Response, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from corral_api.answers import empty_response
from corral_kernel.errors import InvalidDigestError
from corral_kernel.names import parse_digest
from corral_kernel.service import Corral
from corral_kernel.store import BlobWriter
from corral_kernel.threads import to_its_end

_WRITE_BYTES: Final = 1 << 20


@route("/api/blobs/{digest:str}", http_method="HEAD", status_code=HTTP_200_OK)
async def has_blob(digest: FromPath[str], corral: NamedDependency[Corral]) -> Response[bytes]:
    """Tell whether a blob is in the store."""
    try:
        parse_digest(digest)
    except InvalidDigestError:
        return empty_response(400)  # an answer to HEAD has no body that could tell more
    found = await asyncio.to_thread(corral.store.blobs.__contains__, digest)
    return empty_response(200 if found else 404)


@post("/api/blobs/{digest:str}", status_code=HTTP_201_CREATED, request_max_body_size=None)
async def put_blob(
    digest: FromPath[str], request: Request[Any, Any, Any], corral: NamedDependency[Corral]
) -> Response[bytes]:
    """Stream a blob into the store; one that is there already is not even read."""
    parse_digest(digest)
    if await asyncio.to_thread(corral.store.blobs.__contains__, digest):
        return empty_response(200)
    writer = await to_its_end(corral.store.blobs.writer)
    with writer:  # whatever goes wrong, nothing is left behind
        await _copy(request, writer)
        await to_its_end(writer.finish, digest)
    return empty_response(201)


async def _copy(request: Request[Any, Any, Any], writer: BlobWriter) -> None:
    pending = bytearray()  # gathered, since a thread for each piece would cost more than it does
    async for chunk in request.stream():
        pending += chunk
        if len(pending) >= _WRITE_BYTES:
            await to_its_end(writer.write, memoryview(pending))
            pending = bytearray()
    if pending:
        await to_its_end(writer.write, memoryview(pending))
