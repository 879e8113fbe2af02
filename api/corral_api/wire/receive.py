"""Reads and decodes a request without holding up the event loop."""

import asyncio
from typing import Any, Final

from litestar import Request

from corral_api.wire import decode

_THREAD_FROM_BYTES: Final = 256 * 1024  # below, decoding takes less than handing it over is worth


async def receive(request: Request[Any, Any, Any], struct: type[decode.Request]) -> decode.Request:
    """Read the whole body and decode it; a large one in a thread.

    Raises:
        DecodeError: If the body cannot be decoded.
    """
    body = await request.body()
    if len(body) < _THREAD_FROM_BYTES:
        return decode.decode(body, struct)
    return await asyncio.to_thread(decode.decode, body, struct)
