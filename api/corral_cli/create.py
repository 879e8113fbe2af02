"""`corral create`: reads a Modelfile here, sends its files and what it says to the server."""

import math
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from corral_cli import wire
from corral_cli.client import Client, connect
from corral_cli.errors import CommandError
from corral_cli.folders import left_out_line
from corral_cli.modelfiles import Files, gather
from corral_cli.options import parameter_types
from corral_cli.parser import Call
from corral_cli.progress import Progress
from corral_cli.pull import show_steps
from corral_cli.sources import head_of, resolve
from corral_cli.upload import send_files
from corral_kernel.errors import InvalidNameError
from corral_kernel.modelfile import KNOWN_PARAMETERS, MAX_BYTES, Modelfile, ParameterTypes, parse
from corral_kernel.names import ModelName
from corral_kernel.remotes import split_source


def create(call: Call) -> None:
    """Make a model of a Modelfile.

    Raises:
        CommandError: If the Modelfile or a file that it names cannot be read, or it and the flags
            do not fit.
    """
    name = call.args[0]
    check_name(name)
    modelfile, path = _read(call.text("file"))
    for parameter in modelfile.deprecated:
        sys.stdout.write(f"warning: parameter {parameter} is deprecated\n")
    folder = path.absolute().parent if path else Path.cwd()
    files = gather(modelfile, folder, path)
    making = quantizing(call)
    if "draft-quantize" in call.flags and not files.drafts:
        raise CommandError("--draft-quantize requires a DRAFT model")
    body = {"model": name, **_fields(modelfile), **making, **pulling(call)}
    make(body, files, imatrix=call.text("imatrix"), only_here=call.on("experimental"))


def check_name(name: str) -> None:
    """Refuse a name that no model can have.

    Raises:
        CommandError: If it is one.
    """
    try:
        ModelName.parse(name)
    except InvalidNameError:
        raise CommandError(f"invalid model name: {name}") from None


def pulling(call: Call) -> dict[str, bool]:
    """Give the field of a request for how a model that is not here is pulled."""
    return {"insecure": True} if call.on("insecure") else {}


def quantizing(call: Call) -> dict[str, str]:
    """Give the fields of a request for what the flags say of quantizing.

    Raises:
        CommandError: If an importance matrix is given, and nothing is to be quantized.
    """
    if "imatrix" in call.flags and "quantize" not in call.flags:
        raise CommandError("--imatrix is for quantizing: say to which type with --quantize")
    fields = {"quantize": call.text("quantize"), "draft_quantize": call.text("draft-quantize")}
    return {name: text for name, text in fields.items() if text}


def make(
    body: dict[str, Any], files: Files, *, imatrix: str | None = None, only_here: bool = False
) -> None:
    """Send files, and have the server make a model of them; shows how far it is.

    Args:
        body: The fields of the request that are no files.
        files: What to make it of.
        imatrix: The file of an importance matrix.
        only_here: Whether the server must be on this machine.

    Raises:
        CommandError: If a file cannot be read, or the server reports no success.
        ServerError: If the server reports an error.
    """
    matrix = resolve(imatrix, Path.cwd()) if imatrix else None
    if matrix and not head_of(matrix):
        raise CommandError(f"{matrix} is empty: it is to hold an importance matrix")
    if files.left_out:
        sys.stderr.write(left_out_line(files.left_out))
    body = {**body, "stream": True, **(_source(files.source) if files.source else {})}
    with connect() as client, Progress() as progress:
        if only_here and not client.is_here:
            raise CommandError("remote safetensor model creation not yet supported")
        _send(client, body, files, matrix, progress)


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


def _send(
    client: Client, body: dict[str, Any], files: Files, matrix: Path | None, progress: Progress
) -> None:
    fields = {"files": files.weights, "adapters": files.adapters, "draft_files": files.drafts}
    paths = dict.fromkeys(path for named in fields.values() for path in named.values())
    digests = send_files(client, [*paths, *([matrix] if matrix else [])], progress)
    for field, named in fields.items():
        if named:
            body[field] = {name: digests[named[name]] for name in sorted(named)}
    if matrix:
        body["imatrix"] = digests[matrix]
    with closing(client.stream("/api/create", body, wire.Progress)) as lines:
        if not show_steps(lines, progress):
            raise CommandError("the server ended its answer without reporting success")
