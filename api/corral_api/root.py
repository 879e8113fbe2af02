"""What tells that a server is there, which one, and what it does not do."""

from typing import Any, Final

from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from corral_api.answers import json_response
from corral_api.errors import RefusalError
from corral_api.routing import ALSO_HEAD
from corral_api.wire.gojson import DecodeError
from corral_api.wire.responses import (
    CloudStatus,
    RecommendationsResponse,
    StatusResponse,
    VersionResponse,
)
from corral_kernel import __version__
from corral_kernel.service import Corral

API_LEVEL: Final = "0.31.0"
"""The version of Ollama whose API this is; clients compare it with the least that they need."""


@get("/", opt=ALSO_HEAD)
async def running() -> Response[str]:
    """Say that the server runs, in the words that clients look for."""
    return Response("Ollama is running", media_type="text/plain")


@get("/api/version", opt=ALSO_HEAD)
async def version() -> Response[bytes]:
    """Tell the level of the API, and Corral's own version."""
    return json_response(VersionResponse(version=API_LEVEL, corral_version=__version__))


@get("/api/status")
async def status(corral: NamedDependency[Corral]) -> Response[bytes]:
    """Tell that there is no cloud: off as if a configuration said so; the settings may too."""
    source = "both" if corral.settings.no_cloud else "config"
    return json_response(StatusResponse(cloud=CloudStatus(disabled=True, source=source)))


@post("/api/me", status_code=HTTP_200_OK)
async def me() -> Response[bytes]:
    """Tell who is signed in: nobody can be."""
    raise RefusalError(503, "account unavailable")


@post("/api/signout", status_code=HTTP_200_OK)
async def signout() -> Response[bytes]:
    """End a session that there cannot be."""
    raise RefusalError(401, "you are not currently signed in")


@delete("/api/user/keys/{key:str}", status_code=HTTP_200_OK)
async def delete_key() -> Response[bytes]:
    """Remove a key of an account that there cannot be."""
    raise RefusalError(401, "you are not currently signed in")


@post("/api/experimental/web_search", status_code=HTTP_200_OK)
async def web_search(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Refuse to search the web."""
    raise await _no_cloud(request, "web search is unavailable")


@post("/api/experimental/web_fetch", status_code=HTTP_200_OK)
async def web_fetch(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Refuse to fetch a page."""
    raise await _no_cloud(request, "web fetch is unavailable")


async def _no_cloud(request: Request[Any, Any, Any], what: str) -> Exception:
    if not (await request.body()).strip():
        return DecodeError("missing request body")
    return RefusalError(403, f"ollama cloud is disabled: {what}")


@get("/api/experimental/model-recommendations")
async def recommendations() -> Response[bytes]:
    """Recommend no model."""
    return json_response(RecommendationsResponse(recommendations=()))


HANDLERS: Final = (
    running,
    version,
    status,
    me,
    signout,
    delete_key,
    web_search,
    web_fetch,
    recommendations,
)
