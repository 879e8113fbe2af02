"""`llama-bench`, llama.cpp's own measure of a bare library: run, and read."""

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.servers import Load

PATIENCE_S = 300.0


class BenchFailedError(Exception):
    """llama-bench ended with an error, or said nothing that can be read."""


def run(program: Path, load: Load, tokens: int, depth: int) -> dict[str, float]:
    """Decode `tokens` tokens once, from `depth` positions on.

    Returns:
        `decode_tokens_per_s`.

    Raises:
        BenchFailedError: With what it printed.
    """
    command = [str(program), "-m", str(load.model), "-t", str(load.threads)]
    command += ["-p", "0", "-n", str(tokens), "-d", str(depth), "-r", "1", "-o", "json"]
    done = subprocess.run(
        command, env=environment(), capture_output=True, timeout=PATIENCE_S, check=False
    )
    if done.returncode:
        raise BenchFailedError(done.stderr.decode(errors="replace")[-500:])
    return {"decode_tokens_per_s": read(done.stdout)}


def environment() -> dict[str, str]:
    """Have it load the very libraries that Corral's worker loads, not those beside it."""
    spec = find_spec("llama_cpp")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    libraries = os.pathsep.join(str(Path(folder) / "lib") for folder in folders)
    return {**os.environ, "LD_LIBRARY_PATH": libraries}


def read(output: bytes) -> float:
    """Give the tokens a second of llama-bench's JSON.

    Raises:
        BenchFailedError: If there are none.
    """
    try:
        tests: list[dict[str, Any]] = json.loads(output)
        return float(next(test["avg_ts"] for test in tests if test["n_gen"]))
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise BenchFailedError(f"llama-bench's output cannot be read: {error}") from None
