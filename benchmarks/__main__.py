"""`python -m benchmarks --model FILE`: Corral and its peers on one model file, in one run."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from benchmarks import machine, report
from benchmarks.machine import Patience
from benchmarks.report import Sample
from benchmarks.servers import Load, NoServerError
from benchmarks.session import COUNTS, MEASURES, PEERS, Plan, Session
from benchmarks.setup_peers import CACHE, LLAMA_BENCH, PEERS_PYTHON

_LIBRARIES: Final = (
    "corral",
    "llama-cpp-python",
    "litestar",
    "llguidance",
    "msgspec",
    "numpy",
    "uvicorn",
    "uvloop",
)
_PEER_LIBRARIES: Final = ("llama-cpp-python", "xllamacpp")
_VERSIONS: Final = (
    "import json, sys; from importlib.metadata import version;"
    "print(*(version(name) for name in sys.argv[1:]))"
)


def main() -> int:
    """Measure, print the table, write the record."""
    arguments = _parser().parse_args()
    plan = _plan(arguments)
    session = Session(plan, Patience(arguments.patience), _show)
    started = datetime.now(UTC)
    try:
        session.run()
    except (KeyboardInterrupt, NoServerError) as error:
        print(f"{error or 'interrupted'}\nthe table is of what there is", file=sys.stderr)
    lines = report.rows(session.samples, report.comparisons(COUNTS, plan.peers))
    print(f"\n{report.table(lines)}")
    for trouble in report.troubles(session.samples):
        print(f"note: {trouble}")
    if arguments.out is not None:
        report.write(arguments.out, _facts(plan, started), session.samples, lines)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="a GGUF file with a chat template")
    add("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    add("--slots", type=int, default=8, help="requests at once (default: 8)")
    add("--context", type=int, default=2048, help="tokens of context a request (default: 2048)")
    add("--tokens", type=int, default=128, help="tokens of each stream (default: 128)")
    add(
        "--history-characters",
        type=int,
        default=5200,
        help="of the long conversation (default: 5200, some 1,500 tokens)",
    )
    add("--every", type=int, default=1, help="measure each N-th schema of the corpus (default: 1)")
    add("--rounds", type=int, default=5, help="samples of everything (default: 5)")
    add("--only", nargs="+", choices=MEASURES, default=MEASURES, metavar="MEASURE")
    add("--peers", nargs="*", choices=PEERS, default=None, help="default: those that are set up")
    add("--cache", type=Path, default=CACHE, help="what setup_peers has made")
    add("--patience", type=float, default=60, help="seconds to wait for a quiet machine, in all")
    add("--out", type=Path, help="write everything to this JSON file")
    return parser


def _plan(arguments: argparse.Namespace) -> Plan:
    model: Path = arguments.model.resolve()
    if not model.is_file():
        sys.exit(f"{arguments.model} is no file: --model wants a GGUF file")
    python = arguments.cache / PEERS_PYTHON
    program = arguments.cache / LLAMA_BENCH
    ready = {"llama-bench": program, "llama-server": python, "llama-cpp-python": python}
    wanted = PEERS if arguments.peers is None else arguments.peers
    peers = [peer for peer in wanted if ready[peer].exists()]
    if missing := ", ".join(peer for peer in wanted if peer not in peers):
        hint = f"not set up: {missing} (python -m benchmarks.setup_peers does it)"
        if arguments.peers is not None:
            sys.exit(hint)
        print(f"{hint}; measuring without", file=sys.stderr)
    return Plan(
        Load(model, arguments.threads or os.cpu_count() or 1, arguments.slots, arguments.context),
        peers=tuple(peers),
        only=tuple(arguments.only),
        rounds=arguments.rounds,
        tokens=arguments.tokens,
        history_characters=arguments.history_characters,
        every=arguments.every,
        peers_python=python,
        llama_bench=program,
    )


def _show(sample: Sample) -> None:
    values = ", ".join(f"{name} {value:.4g}" for name, value in sample.values.items())
    noise = "" if sample.noise.is_quiet else f" [busy: {sample.noise.cores:.1f} cores]"
    words = sample.failure or values
    print(f"{sample.turn + 1} {sample.measure} {sample.server}: {words}{noise}", flush=True)


def _facts(plan: Plan, started: datetime) -> dict[str, Any]:
    load = plan.load
    return {
        "started": started.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - started).total_seconds() / 60, 1),
        "machine": machine.facts(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "peers": _peer_versions(plan),
        "model": {"file": load.model.name, "size_bytes": load.model.stat().st_size},
        "settings": {
            "threads": load.threads,
            "slots": load.slots,
            "context_tokens": load.context_tokens,
            "tokens": plan.tokens,
            "history_characters": plan.history_characters,
            "every": plan.every,
            "rounds": plan.rounds,
        },
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _peer_versions(plan: Plan) -> dict[str, str]:
    if not {"llama-server", "llama-cpp-python"} & set(plan.peers):
        return {}
    command: Sequence[str] = [str(plan.peers_python), "-c", _VERSIONS, *_PEER_LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(zip(_PEER_LIBRARIES, done.stdout.split(), strict=True))


if __name__ == "__main__":
    sys.exit(main())
