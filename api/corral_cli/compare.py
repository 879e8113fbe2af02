"""`corral compare`: two models on the same prompts, as a table and as a plot."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from corral_cli import human, table, wire
from corral_cli.client import Client, connect
from corral_cli.compare_plot import draw
from corral_cli.errors import BrokenAnswerError, CommandError
from corral_cli.parser import Call
from corral_cli.progress import Progress
from corral_kernel.durations import format_duration

_MAX_BYTES: Final = 1 << 20
_PROMPT_WIDTH: Final = 40
_UNKNOWN: Final = "-"
_ROUND_NS: Final = 1_000_000

Rows = list[Sequence[str]]


def compare(call: Call) -> None:
    """Compare two models; print a table, or what the server answers.

    Raises:
        CommandError: If a file cannot be read or written.
    """
    body = _body(call)
    plot = call.text("plot")
    with connect() as client:
        if call.on("json"):
            text = bytes(client.post("/api/compare", body | {"stream": False}, msgspec.Raw))
            result = _decoded(text)
            sys.stdout.write(text.decode() + "\n")
        else:
            result = _watch(client, body)
            sys.stdout.write(_report(result))
    for words in result.warnings:
        sys.stderr.write(f"warning: {words}\n")
    if plot is not None:
        _write(Path(plot), draw(result))


def _body(call: Call) -> dict[str, Any]:
    options = {"num_ctx": call.flags.get("num-ctx"), "seed": call.flags.get("seed")}
    given = {name: value for name, value in options.items() if value is not None}
    fields: dict[str, Any] = {
        "model_a": call.args[0],
        "model_b": call.args[1],
        "prompts": _prompts(call.text("prompts")),
        "max_tokens": call.flags.get("max-tokens"),
        "options": given or None,
        "options_a": _backend(call.text("backend-a")),
        "options_b": _backend(call.text("backend-b")),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _backend(name: str | None) -> dict[str, str] | None:
    return None if name is None else {"backend": name}


def _prompts(path: str | None) -> list[str] | None:
    """Read prompts from a file, one a line; empty lines are none."""
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"open {path}: {_reason(error)}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path}: it is no UTF-8 text") from None
    if len(data) > _MAX_BYTES:
        raise CommandError(f"{path}: it is larger than {_MAX_BYTES} bytes")
    prompts = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not prompts:
        raise CommandError(f"{path}: there is no prompt in it")
    return prompts


def _decoded(text: bytes) -> wire.Comparison:
    try:
        return msgspec.json.decode(text, type=wire.Comparison)
    except msgspec.MsgspecError as error:
        raise BrokenAnswerError(f"unreadable answer from the server: {error}") from None


def _watch(client: Client, body: dict[str, Any]) -> wire.Comparison:
    """Show the steps of a comparison; give its result."""
    with Progress() as progress:
        for line in client.stream("/api/compare", body, wire.Comparison):
            if line.status == "success":
                return line
            done = f" {line.completed + 1}/{line.total}" if line.total else ""
            progress.step(f"{line.status} {line.side.upper()}: {line.model}{done}")
    raise CommandError("the server ended its answer without a result")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"write {path}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


# ------------------------------------------------------------------------------------- the table


def _report(result: wire.Comparison) -> str:
    parts = [table.render(_sides(result)), table.render(_prompt_rows(result))]
    differently = sum(each.same_prompt is False for each in result.prompts)
    if differently:
        parts.append(f"prompts that B splits into other tokens than A: {differently}\n")
    if result.kl_reason:
        parts.append(f"no divergence: {result.kl_reason}\n")
    return "\n".join(parts)


def _sides(result: wire.Comparison) -> Rows:
    a, b = result.a, result.b
    return [
        ("", "A", "B"),
        ("model", a.model, b.model),
        ("backend", a.backend, b.backend),
        ("quantization", a.quantization, b.quantization),
        ("memory", human.size(a.memory), human.size(b.memory)),
        ("load", _duration(a.load_duration), _duration(b.load_duration)),
        ("speed", _speed(a.tokens_per_second), _speed(b.tokens_per_second)),
    ]


def _prompt_rows(result: wire.Comparison) -> Rows:
    rows: Rows = [("PROMPT", "TOKENS", "FIRST DIFFERENCE", "KL MEAN", "KL MAX")]
    for each in result.prompts:
        tokens, parted = str(each.tokens or _UNKNOWN), _parted(each.first_difference)
        rows.append((_short(each.prompt), tokens, parted, _nats(each.kl_mean), _nats(each.kl_max)))
    differ = len(result.prompts) - result.equal
    all_tokens = str(sum(each.tokens for each in result.prompts) or _UNKNOWN)
    summary = f"{differ} of {len(result.prompts)} differ"
    if result.agreement is not None:
        summary += f", {100 * result.agreement:.1f}% of tokens agree"
    rows.append(("all", all_tokens, summary, _nats(result.kl_mean), _nats(result.kl_max)))
    return rows


def _parted(found: wire.Difference | None) -> str:
    if found is None:
        return "none"
    where = f"token {found.token}" if found.token is not None else f"character {found.character}"
    return f"{where}: {_quoted(found.a)} / {_quoted(found.b)}"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode() if text else "end"


def _short(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= _PROMPT_WIDTH else line[: _PROMPT_WIDTH - 1] + "…"


def _nats(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.3g}"


def _speed(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1f} tokens/s"


def _duration(nanoseconds: int) -> str:
    return format_duration(nanoseconds // _ROUND_NS * _ROUND_NS)
