"""`corral list` and `corral ps`: the tables of models."""

import math
import sys
from datetime import UTC, datetime
from typing import Final

from corral_cli import human, table, wire
from corral_cli.client import Client, connect
from corral_cli.parser import Call

_ID_LENGTH: Final = 12


def list_models(call: Call) -> None:
    """Print the models that there are, or those whose name begins with the prefix."""
    with connect() as client:
        print_models(client, call.args[0] if call.args else "")


def print_models(client: Client, prefix: str) -> None:
    """Print the table of models; the prefix is compared whatever the letter case."""
    models = client.get("/api/tags", wire.Tags).models or []
    rows = [_model_row(m) for m in models if m.name.lower().startswith(prefix.lower())]
    sys.stdout.write(table.render([("NAME", "ID", "SIZE", "MODIFIED"), *rows]))


def model_names(client: Client) -> list[str]:
    """Ask for the names of all models."""
    return [model.name for model in client.get("/api/tags", wire.Tags).models or []]


def _model_row(model: wire.Listed) -> tuple[str, ...]:
    return (
        model.name,
        model.digest[:_ID_LENGTH],
        "-" if model.remote_model else human.size(model.size),
        human.relative(human.parse_time(model.modified_at)),
    )


def list_running(call: Call) -> None:
    """Print the models that are loaded, or those whose name begins with the prefix."""
    prefix = call.args[0] if call.args else ""
    with connect() as client:
        models = client.get("/api/ps", wire.Processes).models or []
    models = [model for model in models if model.name.startswith(prefix)]
    header = ("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")
    sys.stdout.write(table.render([header, *map(_running_row, models)]))
    if call.on("verbose"):
        for model in models:
            if model.engine:
                rows = [("", name, value) for name, value in _engine_rows(model.engine)]
                sys.stdout.write(f"\n  {model.name}\n{table.render(rows)}")


def _engine_rows(engine: wire.Engine) -> list[tuple[str, str]]:
    details = [(name, str(value)) for name, value in engine.details.items()]
    return [("backend", engine.backend), ("slots", str(engine.slots)), *details]


def _running_row(model: wire.Running) -> tuple[str, ...]:
    return (
        model.name,
        model.digest[:_ID_LENGTH],
        human.size(model.size),
        processor(model.size, model.size_vram),
        str(model.context_length),
        until(model.expires_at),
    )


def processor(size: int, size_vram: int) -> str:
    """Say where a model of `size` bytes is, `size_vram` of them on a GPU."""
    if size_vram == 0:
        return "100% CPU"
    if size_vram == size:
        return "100% GPU"
    if size_vram > size or size == 0:
        return "Unknown"
    cpu_percent = math.floor((size - size_vram) / size * 100 + 0.5)
    return f"{cpu_percent}%/{100 - cpu_percent}% CPU/GPU"


def until(expires_at: str, now: datetime | None = None) -> str:
    """Say when a model is unloaded."""
    moment = human.parse_time(expires_at)
    if moment is not None and moment < (now or datetime.now(UTC)):
        return "Stopping..."
    return human.relative(moment, now)
