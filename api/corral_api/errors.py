"""The kernel's errors as the native API tells them: a status and Ollama's words for each code."""

import logging
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from litestar import Request, Response
from litestar.exceptions import HTTPException

from corral_api.answers import empty_response, error_response
from corral_api.wire.encode import encode_line
from corral_api.wire.responses import ErrorResponse
from corral_kernel.errors import (
    CorralError,
    InvalidOptionError,
    MissingCapabilityError,
    RemoteJobError,
    WorkerDiedError,
)
from corral_kernel.gotext import quote
from corral_kernel.modelfile import OLLAMA_OPTIONS
from corral_kernel.names import ModelName, split_marker

_LOG: Final = logging.getLogger(__name__)
_CONTEXT: Final = "corral_error_context"
_SERVER_ERROR: Final = 500
_TOO_LARGE: Final = 413

Route = Literal[
    "generate",
    "chat",
    "embed",
    "embeddings",
    "show",
    "create",
    "copy",
    "delete",
    "pull",
    "push",
    "",
]

PROMPT_TOO_LONG: Final = (
    "the prompt is longer than the context length currently available to the model; shorten the "
    "prompt, adjust the context length in settings, or use a model with a longer context length"
)
_RUNNER_STOPPED: Final = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal "
    "error, check ollama server logs for details"
)

_UNKNOWN_FORMAT: Final = "unknown model architecture"
_INCOMPATIBLE: Final = (
    "this model may be incompatible with your version of Ollama. If you previously pulled this "
    "model, try updating it by running `ollama pull {}`"
)


class ErrorContext(NamedTuple):
    """What the words of an error need to know of its request."""

    route: Route = ""  # the last part of the path
    model: str = ""  # as the client sent it; for show the shortest name with its tag
    format: bytes | None = None  # the request's `format`, as JSON text
    streaming: bool = False  # whether an answer would have been a stream


class Problem(NamedTuple):
    """An error as a client of the native API sees it."""

    status: int
    text: str


class RefusalError(Exception):
    """An answer with a status of its own, for what only the native API's contract knows."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


_MODEL_REQUIRED: Final = Problem(400, "model is required")
_BLANK_MODEL: Final[dict[Route, Problem]] = {
    "generate": Problem(404, "model '' not found"),
    "chat": _MODEL_REQUIRED,
    "embed": Problem(404, "model '' not found"),
    "embeddings": _MODEL_REQUIRED,
    "show": _MODEL_REQUIRED,
    "delete": _MODEL_REQUIRED,
    "push": _MODEL_REQUIRED,
    "pull": Problem(400, "invalid model name"),
    "create": Problem(400, "invalid model name"),
}


def blank_model(route: Route) -> RefusalError:
    """Make the error for a request that names no model."""
    return RefusalError(*_BLANK_MODEL[route])


def invalid_copy(what: Literal["source", "destination"], name: str) -> RefusalError:
    """Make the error for a name that cannot be copied from, or to."""
    return RefusalError(400, f"{what} {quote(name)} is invalid")


def _not_found(message: str, _error: CorralError, context: ErrorContext) -> Problem:
    if not context.model:  # a route of our own, which may name several
        return Problem(404, message)
    quoted = quote(context.model)
    if context.route in ("embed", "embeddings"):
        return Problem(404, f"model {quoted} not found, try pulling it first")
    if context.route == "copy":
        return Problem(404, f"model {quoted} not found")
    return Problem(404, f"model '{context.model}' not found")


def _blob_not_found(message: str, error: CorralError, context: ErrorContext) -> Problem:
    if context.route in ("generate", "chat"):  # its capabilities cannot be read
        return Problem(400, f"{quote(context.model)} does not support {context.route}")
    if context.route in ("embed", "embeddings", "show"):
        return _not_found(message, error, context)
    return Problem(_SERVER_ERROR, message)


def _invalid_name(message: str, _error: CorralError, context: ErrorContext) -> Problem:
    if context.route == "delete":
        return Problem(400, f"name {quote(context.model)} is invalid")
    return Problem(400, message)


def _missing_capability(message: str, error: CorralError, context: ErrorContext) -> Problem:
    missing = error.missing if isinstance(error, MissingCapabilityError) else ()
    if context.route in ("generate", "chat") and "completion" in missing:
        return Problem(400, f"{quote(context.model)} does not support {context.route}")
    if context.route in ("embed", "embeddings"):  # upstream lets the engine say so
        return Problem(501 if context.route == "embed" else _SERVER_ERROR, message)
    return Problem(400, message)


def _invalid_format(message: str, _error: CorralError, context: ErrorContext) -> Problem:
    given = context.format
    if given is None or given.startswith(b"{") or given == b'"json"':
        return Problem(400, message)  # a schema that cannot be kept to
    return Problem(_SERVER_ERROR, _no_format(given))


def _unknown_format(message: str, _error: CorralError, context: ErrorContext) -> Problem:
    """Tell of a type that nobody gives in the contract's words, then of those that there are."""
    if context.format is None:
        return Problem(_SERVER_ERROR, message)
    return Problem(_SERVER_ERROR, f"{_no_format(context.format)}: {message}")


def _no_format(given: bytes) -> str:
    text = quote(given.decode("utf-8", "replace"))
    return f'invalid format: {text}; expected "json" or a valid JSON Schema object'


def _no_manifest(message: str, _error: CorralError, _context: ErrorContext) -> Problem:
    return Problem(_SERVER_ERROR, f"pull model manifest: file does not exist: {message}")


def _prompt_too_long(message: str, _error: CorralError, context: ErrorContext) -> Problem:
    if context.route == "embed":
        return Problem(400, "the input length exceeds the context length")
    if context.route == "embeddings":
        return Problem(_SERVER_ERROR, "the input length exceeds the context length")
    return Problem(400, f"{PROMPT_TOO_LONG}: {message}")


def _engine_failed(message: str, _error: CorralError, context: ErrorContext) -> Problem:
    if context.route == "embed":
        return Problem(400, message)
    if context.route == "embeddings":
        return Problem(_SERVER_ERROR, message)
    text = f"an error was encountered while running the model: {message}"
    return Problem(_SERVER_ERROR, text)


def _worker_died(_message: str, error: CorralError, _context: ErrorContext) -> Problem:
    detail = error.detail if isinstance(error, WorkerDiedError) else ""
    return Problem(_SERVER_ERROR, _RUNNER_STOPPED + (f": {detail}" if detail else ""))


def _load_failed(message: str, _error: CorralError, context: ErrorContext) -> Problem:
    if _UNKNOWN_FORMAT not in message or not context.model:
        return Problem(_SERVER_ERROR, message)
    name = ModelName.parse(split_marker(context.model)[0]).short
    return Problem(_SERVER_ERROR, f"{message}: {_INCOMPATIBLE.format(name)}")


def _invalid_option(message: str, error: CorralError, _context: ErrorContext) -> Problem:
    """Tell of an option; upstream tells of a wrong type when it loads a model, and so by a 500."""
    wrong_type = error.wrong_type if isinstance(error, InvalidOptionError) else ""
    return Problem(_SERVER_ERROR if wrong_type in OLLAMA_OPTIONS else 400, message)


_Rule = Callable[[str, CorralError, ErrorContext], Problem]


def _says(status: int, text: str | None = None) -> _Rule:
    """Give the rule of a code with one status, and one text or the error's own."""
    return lambda message, _error, _context: Problem(status, message if text is None else text)


_RULES: Final[dict[str, _Rule]] = {
    "internal": _says(500),
    "invalid_request": _says(400),
    "invalid_name": _invalid_name,
    "invalid_digest": _says(400, "invalid digest format"),
    "invalid_option": _invalid_option,
    "invalid_format": _invalid_format,
    "unknown_format": _unknown_format,
    "unsupported": _says(400),
    "locked_store": _says(403),
    "missing_capability": _missing_capability,
    "unusable_backend": _says(400),
    "prompt_too_long": _prompt_too_long,
    "model_not_found": _not_found,
    "manifest_not_found": _no_manifest,
    "blob_not_found": _blob_not_found,
    "queue_full": _says(503, "server busy, please try again.  maximum pending requests exceeded"),
    "shutting_down": _says(503),
    "load_failed": _load_failed,
    "out_of_memory": _says(500),
    "cancelled": _says(499, "request canceled"),
    "template_bounds": _says(400),
    "output": _says(500),
    "unknown_renderer": _says(500),
    "parser_failed": _says(500),
    "engine": _engine_failed,
    "sampler_failed": _says(500),
    "constraint_failed": _says(500),
    "worker_died": _worker_died,
    "remote_host": _says(400),
    "remote_refused": _says(400),
    "remote_server": _says(502),
    "remote_timeout": _says(504),
    "remote_busy": _says(503),
}
"""By code; one that is not here has the rule of its base class, in the end that of `internal`."""


def describe(error: CorralError, context: ErrorContext | None = None) -> Problem:
    """Tell the status and words of an error.

    An error that a worker reported is told as if it had been raised here.
    """
    known = (_RULES[code] for code in _codes(error) if code in _RULES)
    rule = next(known, _RULES["internal"])
    return rule(str(error), error, context or ErrorContext())


def _codes(error: CorralError) -> list[str]:
    if isinstance(error, RemoteJobError):
        return [error.remote_code]
    return [vars(base)["code"] for base in type(error).__mro__ if "code" in vars(base)]


def error_line(error: Exception, context: ErrorContext | None = None) -> bytes:
    """Make the last line of a stream that failed after it began."""
    if isinstance(error, CorralError):
        text = describe(error, context).text
    elif isinstance(error, RefusalError):
        text = str(error)
    else:
        _LOG.error("a stream failed", exc_info=error)
        text = "internal error, see the server's log"
    return encode_line(ErrorResponse(error=text))


def remember(request: Request[Any, Any, Any], context: ErrorContext) -> None:
    """Keep what the words of a later error will need; to be called once the body is decoded."""
    request.scope["state"][_CONTEXT] = context


def _context(request: Request[Any, Any, Any]) -> ErrorContext:
    context = request.scope["state"].get(_CONTEXT)
    return context if isinstance(context, ErrorContext) else ErrorContext()


def _on_corral_error(request: Request[Any, Any, Any], error: CorralError) -> Response[bytes]:
    context = _context(request)
    status, text = describe(error, context)
    if status == _SERVER_ERROR:  # full, or going down, is no fault
        trace = error if _LOG.isEnabledFor(logging.DEBUG) else None
        _LOG.error("%s %s: %s", request.method, request.url.path, text, exc_info=trace)
    return error_response(status, text, streaming=context.streaming)


def _on_refusal(request: Request[Any, Any, Any], error: RefusalError) -> Response[bytes]:
    return error_response(error.status, str(error), streaming=_context(request).streaming)


def _on_http_exception(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.status_code == _TOO_LARGE:
        return error_response(_TOO_LARGE, "the request body is larger than this server takes")
    return error_response(error.status_code, error.detail)


def _on_exception(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return empty_response(_SERVER_ERROR)


EXCEPTION_HANDLERS: Final[dict[int | type[Exception], Callable[..., Response[bytes]]]] = {
    CorralError: _on_corral_error,
    RefusalError: _on_refusal,
    HTTPException: _on_http_exception,
    Exception: _on_exception,
}
"""For `Litestar(exception_handlers=…)`."""
