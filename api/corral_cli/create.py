"""`corral create`: reads a Modelfile here, sends its files and what it says to the server."""

import math
import os
import sys
from pathlib import Path
from typing import Any, Final

from corral_cli import wire
from corral_cli.client import Client, connect
from corral_cli.errors import CommandError
from corral_cli.folders import left_out_line
from corral_cli.modelfiles import Files, gather
from corral_cli.options import parameter_types
from corral_cli.parser import Call
from corral_cli.progress import Progress
from corral_cli.pull import show_steps
from corral_cli.upload import send_file
from corral_kernel.errors import InvalidNameError
from corral_kernel.modelfile import KNOWN_PARAMETERS, MAX_BYTES, Modelfile, ParameterTypes, parse
from corral_kernel.names import ModelName
from corral_kernel.remotes import split_source

_LATER: Final = {
    "quantize": "quantizing",
    "draft-quantize": "quantizing",
    "experimental": "importing safetensors",
}


def create(call: Call) -> None:
    """Make a model of a Modelfile.

    Raises:
        CommandError: If the Modelfile or a file that it names cannot be read, or needs what this
            release cannot do.
    """
    name = call.args[0]
    try:
        ModelName.parse(name)
    except InvalidNameError:
        raise CommandError(f"invalid model name: {name}") from None
    for flag, what in _LATER.items():
        if flag in call.flags:
            raise CommandError(f"--{flag}: {what} is not part of this release of corral")
    modelfile, path = _read(call.text("file"))
    for parameter in modelfile.deprecated:
        sys.stdout.write(f"warning: parameter {parameter} is deprecated\n")
    folder = path.absolute().parent if path else Path.cwd()
    files = gather(modelfile, folder, path)
    if files.left_out:
        sys.stderr.write(left_out_line(files.left_out))
    body = {"model": name, **_fields(modelfile), "stream": True}
    if files.source:
        body |= _source(files.source)
    with connect() as client, Progress() as progress:
        _send(client, body, files, progress)


def _source(text: str) -> dict[str, str]:
    """The fields for a model that the server has, or that it is to ask another server for."""
    found = split_source(text)
    return {"from": found[1], "remote_host": found[0]} if found else {"from": text}


def _read(given: str | None) -> tuple[Modelfile, Path | None]:
    """Read the Modelfile; gives too where it lies.

    Without a Modelfile and without being told of one, the model in this folder is meant.
    """
    path = Path(given or "Modelfile")
    if given is None and not path.exists():
        return parse("FROM ."), None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CommandError(f"open {path}: {reason}") from None
    return parse(data, _types), path


def _types(names: frozenset[str]) -> ParameterTypes:
    """Tell the types of parameters; the server is asked only for what is not Ollama's."""
    if names <= KNOWN_PARAMETERS.keys():
        return KNOWN_PARAMETERS
    with connect() as client:
        return parameter_types(client)


def _fields(modelfile: Modelfile) -> dict[str, Any]:
    for name, value in modelfile.parameters.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise CommandError(f"PARAMETER {name}: {value} cannot be sent, JSON has no such number")
    fields = {
        "template": modelfile.template,
        "system": modelfile.system,
        "license": list(modelfile.licenses),
        "parameters": dict(modelfile.parameters),
        "messages": [{"role": m.role, "content": m.content} for m in modelfile.messages],
        "renderer": modelfile.renderer,
        "parser": modelfile.parser,
        "requires": modelfile.requires,
    }
    return {name: value for name, value in fields.items() if value}


def _send(client: Client, body: dict[str, Any], files: Files, progress: Progress) -> None:
    for field, paths in (("files", files.weights), ("adapters", files.adapters)):
        if paths:
            body[field] = {name: send_file(client, paths[name], progress) for name in sorted(paths)}
    if not show_steps(client.stream("/api/create", body, wire.Progress), progress):
        raise CommandError("the server ended its answer without reporting success")
