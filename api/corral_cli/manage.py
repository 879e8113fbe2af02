"""`corral cp`, `rm`, `stop`: what is done to whole models; and the commands that there are not."""

import sys
from typing import Any

from corral_cli import wire
from corral_cli.client import NOT_FOUND, Client, connect
from corral_cli.errors import BrokenAnswerError, CommandError, ServerError
from corral_cli.parser import Call
from corral_kernel.gotext import quote


def copy(call: Call) -> None:
    """Give a model a second name."""
    source, destination = call.args
    with connect() as client:
        client.send("POST", "/api/copy", {"source": source, "destination": destination})
    sys.stdout.write(f"copied '{source}' to '{destination}'\n")


def remove(call: Call) -> None:
    """Unload and delete models, one after the other; the first failure ends it."""
    with connect() as client:
        for name in call.args:
            _unload_before_removal(client, name)
            client.send("DELETE", "/api/delete", {"model": name, "name": name})
            sys.stdout.write(f"deleted '{name}'\n")


def _unload_before_removal(client: Client, name: str) -> None:
    try:
        unload(client, name)
    except ServerError as error:
        if error.status != NOT_FOUND:
            sys.stderr.write(f"Warning: unable to stop model '{name}'\n")
    except BrokenAnswerError:
        sys.stderr.write(f"Warning: unable to stop model '{name}'\n")


def stop(call: Call) -> None:
    """Unload a model.

    Raises:
        CommandError: If there is no such model.
    """
    name = call.args[0]
    with connect() as client:
        try:
            unload(client, name)
        except ServerError as error:
            if error.status == NOT_FOUND:
                raise CommandError(f"couldn't find model {quote(name)} to stop") from None
            raise


def unload(client: Client, name: str) -> None:
    """Have the server unload a model as soon as its requests are done."""
    client.post("/api/show", {"model": name}, wire.ModelInfo)
    body: dict[str, Any] = {"model": name, "keep_alive": 0, "stream": False}
    client.post("/api/generate", body, wire.Chunk)


def not_in_this_release(_: Call) -> None:
    """Say that there are no accounts, and nothing is launched.

    Raises:
        CommandError: Always.
    """
    raise CommandError(
        "this release of corral has no accounts and launches no other programs; users of "
        "registries are set by CORRAL_REGISTRY_AUTH where the server runs"
    )
