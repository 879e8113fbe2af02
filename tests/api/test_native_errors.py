import json
from typing import Any

import pytest

from corral_api.errors import (
    PROMPT_TOO_LONG,
    ErrorContext,
    RefusalError,
    Route,
    blank_model,
    describe,
    error_line,
    invalid_copy,
)
from corral_api.wire.gojson import DecodeError
from corral_kernel import errors as k

RUNNER_STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal "
    "error, check ollama server logs for details"
)
FULL = "registry.ollama.ai/library/m:latest"

TABLE: list[tuple[Route, k.CorralError, int, str]] = [
    ("generate", k.ModelNotFoundError("m:latest"), 404, "model 'M' not found"),
    ("chat", k.ModelNotFoundError("m:latest"), 404, "model 'M' not found"),
    ("show", k.ModelNotFoundError("m:latest"), 404, "model 'M' not found"),
    ("delete", k.ModelNotFoundError("m:latest"), 404, "model 'M' not found"),
    ("embed", k.ModelNotFoundError("x"), 404, 'model "M" not found, try pulling it first'),
    ("embeddings", k.ModelNotFoundError("x"), 404, 'model "M" not found, try pulling it first'),
    ("copy", k.ModelNotFoundError("x"), 404, 'model "M" not found'),
    ("create", k.ManifestNotFoundError("x"), 500, "pull model manifest: file does not exist: x"),
    ("generate", k.BlobNotFoundError("x"), 400, '"M" does not support generate'),
    ("chat", k.BlobNotFoundError("x"), 400, '"M" does not support chat'),
    ("embed", k.BlobNotFoundError("x"), 404, 'model "M" not found, try pulling it first'),
    ("show", k.BlobNotFoundError("x"), 404, "model 'M' not found"),
    ("create", k.BlobNotFoundError("open /x: missing"), 500, "open /x: missing"),
    ("chat", k.InvalidNameError("invalid model name"), 400, "invalid model name"),
    ("delete", k.InvalidNameError("invalid model name"), 400, 'name "M" is invalid'),
    ("create", k.InvalidDigestError("what ever"), 400, "invalid digest format"),
    ("create", k.BlobMismatchError("digest mismatch"), 400, "digest mismatch"),
    ("chat", k.MissingCapabilityError(FULL, ("completion",)), 400, '"M" does not support chat'),
    (
        "generate",
        k.MissingCapabilityError(FULL, ("completion", "insert")),
        400,
        '"M" does not support generate',
    ),
    (
        "chat",
        k.MissingCapabilityError(FULL, ("tools", "thinking")),
        400,
        f"{FULL} does not support tools\nthinking",
    ),
    (
        "embed",
        k.MissingCapabilityError(FULL, ("embedding",)),
        501,
        f"{FULL} does not support embedding",
    ),
    ("chat", k.InvalidOptionError('option "x" is'), 400, 'option "x" is'),
    ("chat", k.InvalidOptionError("must be", wrong_type="num_ctx"), 500, "must be"),
    ("chat", k.InvalidOptionError("must be", wrong_type="of_a_plugin"), 400, "must be"),
    ("chat", k.PromptTooLongError("9 tokens"), 400, f"{PROMPT_TOO_LONG}: 9 tokens"),
    ("embed", k.PromptTooLongError("x"), 400, "the input length exceeds the context length"),
    (
        "chat",
        k.QueueFullError("x"),
        503,
        "server busy, please try again.  maximum pending requests exceeded",
    ),
    ("chat", k.ShuttingDownError("going down"), 503, "going down"),
    ("chat", k.CancelledJobError("x"), 499, "request canceled"),
    ("chat", k.EngineError("no"), 500, "an error was encountered while running the model: no"),
    ("embed", k.EngineError("no"), 400, "no"),
    ("embeddings", k.EngineError("no"), 500, "no"),
    ("chat", k.WorkerDiedError("m", -9), 500, RUNNER_STOPPED),
    ("chat", k.WorkerDiedError("m", -6, "abort()"), 500, f"{RUNNER_STOPPED}: abort()"),
    ("chat", k.WorkerHungError("hung"), 500, "hung"),
    ("chat", k.LoadError("cannot"), 500, "cannot"),
    (
        "chat",
        k.RemoteJobError("load_failed", "unknown model architecture: 'x'"),
        500,
        (
            "unknown model architecture: 'x': this model may be incompatible with your version of "
            "Ollama. If you previously pulled this model, try updating it by running `ollama pull "
            "M:latest`"
        ),
    ),
    ("chat", k.OutOfMemoryError("too big"), 500, "too big"),
    ("create", k.NotGgufError("no magic"), 500, "no magic"),
    ("chat", k.UnsupportedError("not yet"), 400, "not yet"),
    ("delete", k.ReadOnlyModelError("lent"), 400, "lent"),
    ("chat", DecodeError("unexpected EOF"), 400, "unexpected EOF"),
    ("chat", k.RemoteJobError("prompt_too_long", "x"), 400, f"{PROMPT_TOO_LONG}: x"),
    ("chat", k.RemoteJobError("template", "bad template"), 500, "bad template"),
    ("chat", k.RemoteJobError("from a later release", "what"), 500, "what"),
    ("chat", k.RemoteJobError("output", "empty function name"), 500, "empty function name"),
    ("chat", k.UnknownRendererError("x"), 500, 'unknown renderer "x"'),
]


@pytest.mark.parametrize(
    ("route", "error", "status", "text"),
    TABLE,
    ids=[f"{route}-{type(error).__name__}-{error}" for route, error, _, _ in TABLE],
)
def test_an_error_has_the_contracts_status_and_words(
    route: Route, error: k.CorralError, status: int, text: str
) -> None:
    assert describe(error, ErrorContext(route, "M")) == (status, text)


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        (
            b'"xml"',
            500,
            'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object',
        ),
        (b"[1]", 500, 'invalid format: "[1]"; expected "json" or a valid JSON Schema object'),
        (b'{"type":1}', 400, "not a schema"),
        (None, 400, "not a schema"),
    ],
)
def test_a_format_that_is_none_is_quoted(given: bytes | None, status: int, text: str) -> None:
    context = ErrorContext("chat", "m", given)
    assert describe(k.InvalidFormatError("not a schema"), context) == (status, text)


def test_a_format_of_a_type_that_nobody_gives_is_quoted_and_then_told_of() -> None:
    error = k.UnknownFormatError("there are: json")
    words = 'invalid format: "{\\"type\\":\\"x\\"}"; expected "json" or a valid JSON Schema object'
    context = ErrorContext("chat", "m", b'{"type":"x"}')
    assert describe(error, context) == (500, f"{words}: there are: json")
    assert describe(error) == (500, "there are: json")


@pytest.mark.parametrize(
    ("route", "status", "text"),
    [
        ("generate", 404, "model '' not found"),
        ("chat", 400, "model is required"),
        ("embed", 404, "model '' not found"),
        ("embeddings", 400, "model is required"),
        ("show", 400, "model is required"),
        ("delete", 400, "model is required"),
        ("push", 400, "model is required"),
        ("pull", 400, "invalid model name"),
        ("create", 400, "invalid model name"),
    ],
)
def test_a_request_without_a_model_is_refused_as_its_route_does(
    route: Route, status: int, text: str
) -> None:
    refusal = blank_model(route)
    assert (refusal.status, str(refusal)) == (status, text)


def test_a_copy_names_the_side_that_is_wrong() -> None:
    assert str(invalid_copy("source", "")) == 'source "" is invalid'
    assert str(invalid_copy("destination", 'a"b')) == 'destination "a\\"b" is invalid'


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (k.WorkerDiedError("m", None), RUNNER_STOPPED),
        (RefusalError(403, "no <cloud>"), "no <cloud>"),
        (RuntimeError("the secret inside"), "internal error, see the server's log"),
    ],
)
def test_a_stream_ends_with_one_line_that_tells_the_error(error: Exception, text: str) -> None:
    line = error_line(error, ErrorContext("chat", "m"))
    assert line.endswith(b"\n")
    assert b"<" not in line
    parsed: Any = json.loads(line)
    assert parsed == {"error": text}


def test_every_error_of_the_kernel_is_described() -> None:
    def below(base: type[k.CorralError]) -> list[type[k.CorralError]]:
        return [base, *(error for child in base.__subclasses__() for error in below(child))]

    made: dict[type[k.CorralError], Any] = {
        k.TaskDiedError: ("quantize", 1),
        k.WorkerDiedError: ("m", 1),
        k.MissingCapabilityError: ("m", ("tools",)),
        k.RemoteJobError: ("internal", "x"),
        k.SamplerFailedError: ("s", "x"),
        k.ConstraintFailedError: ("c", "x"),
        k.ParserFailedError: ("p", "x"),
    }
    for error in below(k.CorralError):
        if error.__module__ == k.__name__:
            problem = describe(error(*made.get(error, ("x",))))
            assert 400 <= problem.status < 600
            assert problem.text
