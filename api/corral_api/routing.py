"""What upstream's router does around the handlers, and Litestar's does otherwise.

A table made of the application's routes stands in front of it: it answers unknown paths, wrong
methods and slashes too many or too few; it gives HEAD where the contract has it; and nothing that
goes wrong inside shows a client more than an empty 500.

    @get("/api/version", opt=ALSO_HEAD)
    …
    app = finish(Litestar([…], openapi_config=None), bound_host="127.0.0.1")
"""

import html
import logging
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from corral_api.middleware.cors import Cors, Origins
from corral_api.middleware.hosts import Hosts, is_loopback
from corral_api.middleware.plain import send_body, send_empty

_LOG: Final = logging.getLogger(__name__)
_OPT: Final = "also_head"

ALSO_HEAD: Final = {_OPT: True}
"""The `opt` of a GET handler whose path answers HEAD too."""

_METHOD_ORDER: Final = ("HEAD", "GET", "POST", "DELETE", "PUT", "PATCH")
_PLAIN_TEXT: Final = (b"content-type", b"text/plain")
_PATH_SAFE: Final = "/:@!$&'()*+,;=~"


def finish(app: Litestar, *, origins: Sequence[str] = (), bound_host: str) -> ASGIApp:
    """Put everything around the application that a server of the native API needs.

    Args:
        app: The application, with all its routes.
        origins: Entries of the list of allowed origins, beside the built-in ones.
        bound_host: The address that the server listens on; on a loopback address the host of each
            request is checked.

    Raises:
        InvalidOriginError: If one of `origins` is none.
    """
    inner: ASGIApp = Router(app)
    if is_loopback(bound_host):
        inner = Hosts(inner)
    return Cors(inner, Origins(origins))


class RouteTable:
    """Which methods each path has."""

    def __init__(self, app: Litestar) -> None:
        self._exact: dict[str, frozenset[str]] = {}
        self._patterns: list[tuple[re.Pattern[str], frozenset[str]]] = []
        for route in app.routes:
            if isinstance(route, HTTPRoute):
                self._add(route)

    def _add(self, route: HTTPRoute) -> None:
        methods = {method for method in route.methods if method != "OPTIONS"}
        if any(handler.opt.get(_OPT) for handler in route.route_handlers):
            methods.add("HEAD")
        if all(isinstance(part, str) for part in route.path_components):
            self._exact[route.path] = frozenset(methods)
            return
        pattern = "".join(
            "/" + (re.escape(part) if isinstance(part, str) else _parameter(part.full))
            for part in route.path_components
        )
        self._patterns.append((re.compile(pattern), frozenset(methods)))

    def methods(self, path: str) -> frozenset[str]:
        """Give the methods of a path; none if there is no such path."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        found = (methods for pattern, methods in self._patterns if pattern.fullmatch(path))
        return next(found, frozenset())


def _parameter(full: str) -> str:
    return ".+" if full.endswith(":path") else "[^/]+"


class Router:
    """Answers what no handler should see, and hands on the rest."""

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._table = RouteTable(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == ScopeType.HTTP:
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        methods = self._table.methods(path)
        twin = path[:-1] if path.endswith("/") else path + "/"
        if method in methods:
            await self._hand_on(scope, receive, send, methods)
        elif twin and method in self._table.methods(twin):
            await _redirect(scope, send, twin)
        elif methods:
            allowed = ", ".join(name for name in _METHOD_ORDER if name in methods)
            headers = [_PLAIN_TEXT, (b"allow", allowed.encode())]
            await send_body(_bodiless(send, method), 405, b"405 method not allowed", headers)
        else:
            await send_body(_bodiless(send, method), 404, b"404 page not found", [_PLAIN_TEXT])

    async def _hand_on(
        self, scope: HTTPScope, receive: Receive, send: Send, methods: frozenset[str]
    ) -> None:
        started = False

        async def forward(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = _without_needless_type(message["headers"])
            await bodiless(message)

        bodiless = _bodiless(send, scope["method"])
        if scope["method"] == "HEAD" and "GET" in methods:
            scope = {**scope, "method": "GET"}
        try:
            await self._app(scope, receive, forward)
        except Exception:
            if started:  # the server cuts the connection: what else could tell the client
                raise
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            await send_empty(send, 500)


def _without_needless_type(
    headers: Iterable[tuple[bytes, bytes]],
) -> list[tuple[bytes, bytes]]:
    """Leave out the content type of an answer without content."""
    headers = list(headers)
    if (b"content-length", b"0") not in headers:
        return headers
    return [(name, value) for name, value in headers if name != b"content-type"]


def _bodiless(send: Send, method: str) -> Send:
    """For HEAD: send everything but the body."""
    if method != "HEAD":
        return send

    async def without_body(message: Message) -> None:
        if message["type"] == "http.response.body":
            message["body"] = b""
        await send(message)

    return without_body


async def _redirect(scope: HTTPScope, send: Send, path: str) -> None:
    location = quote(path, safe=_PATH_SAFE)
    if scope["query_string"]:
        location += "?" + scope["query_string"].decode("latin-1")
    headers = [(b"location", location.encode("latin-1"))]
    if scope["method"] != "GET":
        await send_empty(send, 307, headers)
        return
    headers.append((b"content-type", b"text/html; charset=utf-8"))
    body = f'<a href="{html.escape(location)}">Moved Permanently</a>.\n\n'
    await send_body(send, 301, body.encode(), headers)
