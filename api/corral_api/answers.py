"""HTTP answers with the headers of the native API; every handler returns one of these."""

from typing import Any, Final

from litestar import Response

from corral_api.wire.encode import encode
from corral_api.wire.responses import ErrorResponse

JSON: Final = "application/json; charset=utf-8"
STREAM_JSON: Final = "application/json"
"""What upstream labels an error with where a stream was due, and the end of a progress stream."""
NDJSON: Final = "application/x-ndjson"
PLAIN: Final = "text/plain"


def json_response(answer: Any, status: int = 200, *, media_type: str = JSON) -> Response[bytes]:
    """Answer with one JSON object, given as a struct of `corral_api.wire.responses`."""
    return Response(encode(answer), status_code=status, media_type=media_type)


def empty_response(status: int = 200) -> Response[bytes]:
    """Answer with a status alone; `routing.finish` sees to it that no content type goes out."""
    return Response(b"", status_code=status, media_type=PLAIN)


def error_response(status: int, text: str, *, streaming: bool = False) -> Response[bytes]:
    """Answer with `{"error": text}`.

    Args:
        status: The HTTP status.
        text: What went wrong, as clients know it.
        streaming: Whether a stream was asked for, and had not begun.
    """
    media_type = STREAM_JSON if streaming else JSON
    return json_response(ErrorResponse(error=text), status, media_type=media_type)
