"""Small answers and look-ups that need no framework."""

from collections.abc import Iterable

from litestar.types import HTTPScope, Send

Headers = Iterable[tuple[bytes, bytes]]


def header(scope: HTTPScope, name: bytes) -> bytes:
    """Give the first header of that (lower-case) name, or nothing."""
    return next((value for key, value in scope["headers"] if key == name), b"")


async def send_empty(send: Send, status: int, headers: Headers = ()) -> None:
    """Answer with a status and headers alone."""
    await send_body(send, status, b"", headers)


async def send_body(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Answer with a status, headers and a whole body."""
    length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]  # noqa: PLR2004
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
