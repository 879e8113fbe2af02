"""`corral run`: one answer, a vector, or a conversation."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from corral_cli import wire
from corral_cli.answer import NO_LAST_LINE, Answer, print_timings, print_warnings
from corral_cli.client import NOT_FOUND, Client, connect
from corral_cli.errors import CommandError, ServerError, UsageError
from corral_cli.listing import model_names
from corral_cli.parser import Call
from corral_cli.pull import fetch
from corral_cli.registries import name_of
from corral_cli.settings import RunSettings
from corral_cli.sources import is_there, resolve
from corral_kernel.durations import FOREVER, format_duration, parse_keep_alive
from corral_kernel.gotext import parse_bool, quote

_MAX_INPUT_BYTES: Final = 64 * 1024 * 1024
_MAX_NAMES_SHOWN: Final = 10
_THINK_LEVELS: Final = ("high", "medium", "low", "max")


def run(call: Call) -> None:
    """Run a model on the prompt that arguments and piped input make, or talk with it.

    Raises:
        UsageError: For a flag with a wrong value.
        CommandError: If there is no such model.
    """
    model, *words = call.args
    _check_is_no_path(model)
    settings = read_settings(call, model)
    if not sys.stdin.isatty():
        words = [text for text in (_piped_input(),) if text] + words
    prompt = " ".join(words)
    interactive = not words and sys.stdin.isatty() and sys.stdout.isatty()
    with connect() as client:
        settings.model = name_of(client, model)
        info = _find(client, settings.model, model, insecure=call.on("insecure"))
        if settings.think is None and "thinking" in (info.capabilities or []):
            settings.think = True
        if "embedding" in (info.capabilities or []):
            _print_vector(client, settings, prompt, call)
            return
        for name in _OF_VECTORS:
            if name in call.flags:
                sys.stderr.write(f"warning: --{name} is ignored: {model} makes no vectors\n")
        if interactive:
            from corral_cli.interactive import talk
            from corral_cli.session import Session

            talk(Session(client, settings, info))
        else:
            _print_answer(client, settings, prompt)


def _check_is_no_path(text: str) -> None:
    # No name begins so: what lies there can be made a model of.
    if text.startswith((".", "/", "~")) and is_there(resolve(text, Path())):
        raise CommandError(
            f"invalid model name: {text} is a path; write FROM {text} into a file Modelfile, "
            "then 'corral create NAME -f Modelfile' and 'corral run NAME'"
        )


def read_settings(call: Call, model: str) -> RunSettings:
    """Read the flags of `run`.

    Raises:
        UsageError: For a flag with a wrong value.
        InvalidDurationError: For a `--keepalive` that is no duration.
    """
    keep_alive = call.text("keepalive")
    think = call.text("think")
    format_text = call.text("format")
    return RunSettings(
        model=model,
        keep_alive=None if keep_alive is None else _keep_alive(keep_alive),
        think=None if think is None else _think(think),
        format=None if format_text is None else read_format(format_text),
        wrap=not call.on("nowordwrap"),
        verbose=call.on("verbose"),
        hide_thinking=call.on("hidethinking"),
    )


def _keep_alive(text: str) -> str | int:
    nanoseconds = parse_keep_alive(text)
    return -1 if nanoseconds == FOREVER else format_duration(nanoseconds)


def _think(text: str) -> bool | str:
    if text in _THINK_LEVELS:
        return text
    try:
        return parse_bool(text)
    except ValueError:
        raise UsageError(
            f"invalid value for --think: {quote(text)} "
            "(must be true, false, high, medium, low, or max)"
        ) from None


def read_format(text: str) -> Any:
    """Read a form of answers: the word `json`, or a JSON schema.

    Raises:
        UsageError: If the text is neither.
    """
    if text == "json":
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UsageError(f'--format is neither "json" nor a JSON schema: {error}') from None


def _piped_input() -> str:
    data = sys.stdin.buffer.read(_MAX_INPUT_BYTES + 1)
    if len(data) > _MAX_INPUT_BYTES:
        raise CommandError(f"standard input holds more than {_MAX_INPUT_BYTES} bytes")
    return data.decode("utf-8", "replace")


def _find(client: Client, model: str, address: str, *, insecure: bool) -> wire.ModelInfo:
    """Give what is known of a model; one that is not here is pulled first, from its address."""
    try:
        return client.post("/api/show", {"model": model}, wire.ModelInfo)
    except ServerError as error:
        if error.status != NOT_FOUND:
            raise
    try:
        fetch(client, address, insecure=insecure)
    except ServerError as error:
        names = model_names(client)
        here = ", ".join(names[:_MAX_NAMES_SHOWN]) + (", ..." * (len(names) > _MAX_NAMES_SHOWN))
        raise CommandError(
            f"{error}\n"
            + (f"'corral list' shows the models that are here: {here}" if here else _NO_MODELS)
        ) from None
    return client.post("/api/show", {"model": model}, wire.ModelInfo)


_OF_VECTORS: Final = ("truncate", "dimensions")
_NO_MODELS: Final = (
    "There are none here yet: 'pip install corral[starter]' brings a small one, "
    "'corral create NAME -f Modelfile' makes one of a GGUF file."
)


def _print_vector(client: Client, settings: RunSettings, prompt: str, call: Call) -> None:
    if not prompt:
        raise UsageError(
            "embedding models require input text. "
            f'Usage: corral run {settings.model} "your text here"'
        )
    body: dict[str, Any] = {"model": settings.model, "input": prompt}
    body |= {name: call.flags[name] for name in _OF_VECTORS if name in call.flags}
    if settings.keep_alive is not None:
        body["keep_alive"] = settings.keep_alive
    vectors = client.post("/api/embed", body, wire.Embeddings).embeddings
    if not vectors:
        raise CommandError("the server answered without a vector")
    sys.stdout.write(bytes(vectors[0]).decode() + "\n")


def _print_answer(client: Client, settings: RunSettings, prompt: str) -> None:
    answer = Answer(wrap=settings.wrap and sys.stdin.isatty(), hide_thinking=settings.hide_thinking)
    body = {"prompt": prompt, **settings.request()}
    try:
        with closing(client.stream("/api/generate", body, wire.Chunk)) as chunks:
            answer.show(chunks)
    except KeyboardInterrupt:
        answer.leave()
        return
    if prompt:
        sys.stdout.write("\n\n")
    if answer.last is None:
        sys.stderr.write(NO_LAST_LINE)
        return
    print_warnings(answer.last)
    if settings.verbose:
        print_timings(answer.last)
