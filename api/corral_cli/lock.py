"""`corral lock` and `corral pull --locked`: which models there are, to the byte."""

import os
import secrets
import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

from corral_cli.client import connect
from corral_cli.errors import CommandError
from corral_cli.parser import Call
from corral_cli.pull import fetch
from corral_kernel.lockfile import LockedModel, dump, parse, read_lock
from corral_kernel.names import ModelName

_DEFAULT: Final = "models.lock"


class Lock(Struct):
    """`POST /api/lock`."""

    lock: str = ""


def lock(call: Call) -> None:
    """Have the server write down its models, and keep that in a file.

    Raises:
        CommandError: If the file cannot be written.
    """
    path = Path(call.text("output") or _DEFAULT)
    with connect() as client:
        text = client.post("/api/lock", {"models": list(call.args)}, Lock).lock
    models = parse(text)
    _write(path, text)
    sys.stdout.write(f"locked {len(models)} model{'' if len(models) == 1 else 's'} in {path}\n")
    _tell_of_sourceless([name.short for name, model in models.items() if not model.source])


def _tell_of_sourceless(names: list[str]) -> None:
    if len(names) == 1:
        sys.stderr.write(
            f"{names[0]} has no source: where its blobs are not, it cannot be fetched; "
            "push it to a registry and lock it again\n"
        )
    elif names:
        sys.stderr.write(
            f"{len(names)} of them have no source: where their blobs are not, they cannot be "
            f"fetched; push them to a registry and lock them again: {', '.join(names)}\n"
        )


def _write(path: Path, text: str) -> None:
    """Put a text in its place in one step."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CommandError(f"{path}: {reason}") from None


def pull_locked(file: str, names: tuple[str, ...], *, insecure: bool) -> None:
    """Have the server make models what a lock says.

    Args:
        file: The lock.
        names: Which of its models; none: all.
        insecure: Use plain http.

    Raises:
        CommandError: If the lock has not what is named, or the server reports no success.
        InvalidLockError: If the file is no lock.
    """
    models = list(read_lock(Path(file)).values())
    if names:
        models = [_named(models, name, file) for name in names]
    with connect() as client:
        for model in models:
            sys.stderr.write(f"{model.name.short}\n")
            fetch(client, model.name.full, insecure=insecure, locked=dump([model]))


def _named(models: list[LockedModel], name: str, file: str) -> LockedModel:
    wanted = ModelName.parse(name)
    for model in models:
        if model.name.same_as(wanted):
            return model
    raise CommandError(f"{file} has no model {wanted.short}")
