"""`corral pull` and `corral push`: models from registries and into them, with their progress."""

import sys
from collections.abc import Iterable
from contextlib import closing
from typing import Any, Final

from corral_cli import wire
from corral_cli.client import Client, connect
from corral_cli.errors import CommandError, ServerError, UsageError
from corral_cli.parser import Call
from corral_cli.progress import Bar, Progress
from corral_kernel.errors import InvalidNameError
from corral_kernel.names import DEFAULT_HOST, ModelName

_PULLING: Final = "pulling "
_DENIED: Final = "unauthorized: access denied"


def pull(call: Call) -> None:
    """Fetch a model from its registry.

    Raises:
        CommandError: If the server reports no success.
        UsageError: If not one model is named.
    """
    if file := call.text("locked"):
        from corral_cli.lock import pull_locked

        pull_locked(file, call.args, insecure=call.on("insecure"))
        return
    if len(call.args) != 1:
        raise UsageError(f"accepts 1 arg(s), received {len(call.args)}")
    with connect() as client:
        fetch(client, call.args[0], insecure=call.on("insecure"))


def push(call: Call) -> None:
    """Put a model into its registry.

    Raises:
        CommandError: If the registry does not let us.
    """
    name = call.args[0]
    with connect() as client:
        try:
            _follow(client, "/api/push", _body(name, insecure=call.on("insecure")))
        except ServerError as error:
            if str(error) == _DENIED and _is_ollamas(name):
                raise CommandError(
                    "you are not authorized to push to this namespace, "
                    "create the model under a namespace you own"
                ) from None
            raise
    if _is_ollamas(name):
        short = ModelName.parse(name).short.removesuffix(":latest")
        sys.stdout.write(f"\nYou can find your model at:\n\n\thttps://ollama.com/{short}\n")


def fetch(client: Client, name: str, *, insecure: bool, locked: str = "") -> None:
    """Have the server fetch a model, and show how far it is.

    Args:
        client: To the server.
        name: The model.
        insecure: Use plain http.
        locked: The text of a lock that says what the model is to be.

    Raises:
        CommandError: If the server reports no success.
        ServerError: If it reports an error.
    """
    body = _body(name, insecure=insecure)
    _follow(client, "/api/pull", body | {"locked": locked} if locked else body)


def _body(name: str, *, insecure: bool) -> dict[str, Any]:
    return {"model": name, "insecure": insecure, "stream": True}


def _is_ollamas(name: str) -> bool:
    try:
        return ModelName.parse(name).host.lower() == DEFAULT_HOST
    except InvalidNameError:
        return False


def _follow(client: Client, path: str, body: dict[str, Any]) -> None:
    with Progress() as progress, closing(client.stream(path, body, wire.Progress)) as lines:
        if not show_steps(lines, progress):
            raise CommandError("the server ended its answer without reporting success")


def show_steps(lines: Iterable[wire.Progress], progress: Progress) -> bool:
    """Show the steps of long work; tells whether the last one was success."""
    bars: dict[tuple[str, str], Bar] = {}  # one digest may be worked on in several ways
    status = ""
    for line in lines:
        key = line.digest, line.status
        for (digest, doing), bar in bars.items():
            if line.status not in (doing, "") and line.digest in (digest, ""):
                bar.finish()  # some work is over before its last byte is told of
        if line.digest and line.total:
            # A pull names all its files before it begins with the first.
            if key not in bars and (line.completed or not line.status.startswith(_PULLING)):
                bars[key] = progress.bar(line.status, line.total)
            if key in bars:
                bars[key].advance(line.completed)
        elif line.status and line.status != status:
            progress.step(line.status)
        status = line.status
    return status == "success"
