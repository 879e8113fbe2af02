"""Examines installed plugins, each in a fresh process: what it weighs, and what it breaks.

    for report in examine("calm"):
        report.checks

Run as `python -P -m corral_kernel.doctor NAME DISTRIBUTION FD` it is that process, and writes its
checks to the descriptor, one line of JSON each: what a plugin prints does not get among them, and
of one that dies the checks so far are known.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from corral_kernel.errors import PluginError
from corral_kernel.plugins import installed

TIMEOUT_S = 300
"""For one plugin, its contract suites among it."""
_OUTPUT_BYTES = 1000


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Args:
        name: What.
        status: `ok`, `failed`, or `note` for what is only worth knowing.
        detail: What was found, and what to do.
    """

    name: str
    status: str
    detail: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """What was found of one plugin, named by its entry point."""

    plugin: str
    distribution: str
    checks: tuple[Check, ...]


def examine(name: str | None = None) -> Iterator[Report]:
    """Examine a plugin, or all that are installed, one after the other.

    Args:
        name: Of its entry point, or of its distribution; None: all.

    Raises:
        PluginError: If there is none of that name.
    """
    everything = sorted(installed(), key=lambda plugin: (plugin[1].lower(), plugin[0]))
    found = [plugin for plugin in everything if name in (None, *plugin[:2])]
    if name is not None and not found:
        have = ", ".join(sorted({plugin[0] for plugin in everything})) or "none"
        raise PluginError(f"no plugin {name!r} is installed; there are: {have}")
    for plugin, distribution, _ in found:
        checks = tuple(_checks(plugin, distribution))
        yield Report(plugin=plugin, distribution=distribution, checks=checks)


def _checks(plugin: str, distribution: str) -> Iterator[Check]:
    reading, writing = os.pipe()
    # -P: the folder where somebody happens to be lends no modules.
    program = [sys.executable, "-P", "-m", "corral_kernel.doctor"]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*program, plugin, distribution, str(writing)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(writing,),
        start_new_session=True,
    )
    os.close(writing)
    output = bytearray()
    drain = threading.Thread(target=_drain, args=(process, output))
    drain.start()
    killer = threading.Timer(TIMEOUT_S, process.kill)
    killer.start()
    try:
        with os.fdopen(reading, "rb") as checks:
            for line in checks:
                yield msgspec.json.decode(line, type=Check)
        status = process.wait()
    finally:
        in_time = killer.is_alive()
        killer.cancel()
        process.kill()
        process.wait()
        drain.join()
    if status:
        yield _death(status, bytes(output), in_time=in_time)


def _drain(process: subprocess.Popen[bytes], output: bytearray) -> None:
    """Read what it prints; the end of it is kept."""
    assert process.stdout is not None
    with process.stdout as stream:
        while piece := os.read(stream.fileno(), 65536):
            output += piece
            del output[:-_OUTPUT_BYTES]


def _death(status: int, output: bytes, *, in_time: bool) -> Check:
    how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
    if not in_time:
        how = f"was not done after {TIMEOUT_S} seconds"
    text = output.decode("utf-8", "replace").strip()
    detail = f"the process that examined it {how}" + (f": {text}" if text else "")
    return Check(name="process", status="failed", detail=detail)


def main() -> None:
    """Examine one plugin here, in this process."""
    name, distribution, descriptor = sys.argv[1:]
    from corral_kernel.examination import Examination

    with os.fdopen(int(descriptor), "wb", buffering=0) as checks:
        os.set_inheritable(checks.fileno(), False)  # noqa: FBT003 - its one argument
        with contextlib.suppress(BrokenPipeError):  # whoever asked has left
            for check in Examination(name, distribution).checks():
                checks.write(msgspec.json.encode(check) + b"\n")


if __name__ == "__main__":
    main()
