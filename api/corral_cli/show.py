"""`corral show`: what the server knows of a model."""

import sys
from collections.abc import Sequence
from typing import Any, Final, TextIO

from corral_cli import human, table, wire
from corral_cli.client import connect
from corral_cli.errors import UsageError
from corral_cli.parser import Call
from corral_kernel.gotext import format_number

_SECTIONS: Final = ("license", "modelfile", "parameters", "template", "system")
_LIST_WIDTH: Final = 10
_TEXT_LINES: Final = 2
_CHOSEN_BY: Final = {
    "parameter": "chosen by PARAMETER backend",
    "order": "chosen by CORRAL_BACKEND_ORDER",
    "bid": "chosen as the highest",
}

Rows = list[Sequence[str]]


def show(call: Call) -> None:
    """Print all about a model, or the one part of it that a flag names.

    Raises:
        UsageError: If more than one part is asked for.
    """
    sections = [name for name in _SECTIONS if call.on(name)]
    if len(sections) > 1:
        raise UsageError(
            "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' "
            "can be specified"
        )
    verbose = call.on("verbose")
    with connect() as client:
        body = {"model": call.args[0], "verbose": verbose}
        info = client.post("/api/show", body, wire.ModelInfo)
    if not sections:
        print_info(info, sys.stdout, verbose=verbose)
        return
    text: str = getattr(info, sections[0])
    bare = sections[0] in ("template", "system")
    sys.stdout.write(text if bare else f"{text}\n")


def print_info(info: wire.ModelInfo, out: TextIO, *, verbose: bool = False) -> None:
    """Print the sections that tell of a model; empty ones are left out."""
    metadata, tensors = (_metadata_rows(info), _tensor_rows(info)) if verbose else ([], [])
    capabilities: Rows = [(name,) for name in info.capabilities or []]
    parameters: Rows = [line.split() for line in info.parameters.splitlines() if line]
    for title, rows in (
        ("Model", _model_rows(info)),
        ("Capabilities", capabilities),
        ("Projector", _projector_rows(info.projector_info or {})),
        ("Backend", _backend_rows(info.backend)),
        ("Parameters", parameters),
        ("Metadata", metadata),
        ("Tensors", tensors),
        ("System", _text_rows(info.system)),
        ("License", _text_rows(info.license)),
    ):
        if rows:
            body = table.render([("", *row) for row in rows])
            out.write(f"  {title}\n{body}\n")


def _model_rows(info: wire.ModelInfo) -> Rows:
    details, numbers = info.details, info.model_info or {}
    arch = str(numbers.get("general.architecture") or details.family)
    parameters = details.parameter_size or _count(numbers.get("general.parameter_count"))
    rows: Rows = [
        ("Remote model", info.remote_model),
        ("Remote URL", info.remote_host),
        ("architecture", arch),
        ("parameters", parameters),
        ("context length", _number(numbers.get(f"{arch}.context_length"))),
        ("embedding length", _number(numbers.get(f"{arch}.embedding_length"))),
    ]
    shown = [row for row in rows if row[1]]
    shown.append(("quantization", details.quantization_level))
    return [*shown, ("requires", info.requires)] if info.requires else shown


def _backend_rows(backend: wire.Backend) -> Rows:
    rows: Rows = []
    if backend.error:
        rows.append(("none", backend.error))
    elif backend.name:
        by = _CHOSEN_BY.get(backend.chosen_by, "")
        bid = "" if backend.confidence is None else f"bids {backend.confidence:g}"
        how = ", ".join(part for part in (bid, by) if part)
        rows.append((backend.name, backend.why, *([how] if how else [])))
    rows += [(other.name, other.why, f"bids {other.confidence:g}") for other in backend.others]
    rows += [
        (absent.name, absent.why, f"needs {absent.needs}: {absent.install}")
        for absent in backend.absent
    ]
    return rows


def _projector_rows(numbers: dict[str, Any]) -> Rows:
    if not numbers:
        return []
    arch = str(numbers.get("general.architecture", ""))
    rows: Rows = [
        ("architecture", arch),
        ("parameters", _count(numbers.get("general.parameter_count"))),
        ("embedding length", _number(numbers.get(f"{arch}.vision.embedding_length"))),
        ("dimensions", _number(numbers.get(f"{arch}.vision.projection_dim"))),
    ]
    return [row for row in rows if row[1]]


def _metadata_rows(info: wire.ModelInfo) -> Rows:
    return [(key, _value(value)) for key, value in sorted((info.model_info or {}).items())]


def _tensor_rows(info: wire.ModelInfo) -> Rows:
    return [
        (tensor.name, tensor.type, f"[{' '.join(map(str, tensor.shape or []))}]")
        for tensor in info.tensors or []
    ]


def _text_rows(text: str) -> Rows:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rows: Rows = [(line,) for line in lines[:_TEXT_LINES]]
    return [*rows, ("...",)] if len(lines) > _TEXT_LINES else rows


def _count(value: object) -> str:
    return human.count(int(value)) if isinstance(value, int | float) else ""


def _number(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, int | float) else ""


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return format_number(value)
        case str():
            return value
        case list():
            return _list(value)
        case None:
            return "<nil>"
        case _:
            return "map[string]interface {}"


def _list(values: list[Any]) -> str:
    """Show as many items of a list as a narrow column holds, at least one."""
    items = [_value(value) for value in values[:_LIST_WIDTH]]
    width, shown = 1, 0
    for index, item in enumerate(items):
        width += len(item) + (2 if index else 0)
        if index and width > _LIST_WIDTH:
            break
        shown += 1
    hidden = len(values) - shown
    return f"[{' '.join(items[:shown])}{f' ...+{hidden} more' if hidden else ''}]"
