"""The machine: what it is, how much of it others are using, and records of what it did."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped] # it has no stubs here

WINDOW_S = 0.25
QUIET_CORES = 0.15
"""Up to this many cores' worth of other people's work, a machine counts as quiet."""
STEP_S = 0.5
SHORTEST_S = 0.05
"""Processor time comes in hundredths of a second: of less than this it tells nothing."""


def facts() -> dict[str, Any]:
    """Describe the machine, without its name or anything else of its owner's."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "threads": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
    }


def record(out: Path | None, **measured: Any) -> None:
    """Write what was measured here to a JSON file; None: nowhere."""
    if out is not None:
        text = json.dumps({"machine": facts(), **measured}, indent=1)
        out.write_text(text + "\n", encoding="utf-8")


def thread_us(run: Callable[[], object]) -> float:
    """Do something; give the microseconds of the processor that this thread took for it."""
    began = time.thread_time()
    run()
    return 1e6 * (time.thread_time() - began)


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - no file of a user's
            lines = [line.partition(":") for line in file]
    except OSError:
        return platform.processor() or "unknown"
    fields = {name.strip(): value.strip() for name, _, value in lines}
    name = fields.get("model name", "unknown")
    return f"{name}, family {fields.get('cpu family', '?')}, model {fields.get('model', '?')}"


@dataclass(frozen=True)
class Noise:
    """What else used the processors during some time.

    Attributes:
        cores: By other processes, in cores' worth.
        stolen: Taken by the machine's host, in cores' worth.
    """

    cores: float
    stolen: float

    @property
    def is_quiet(self) -> bool:
        """Whether a measurement made meanwhile can be trusted."""
        return self.cores + self.stolen <= QUIET_CORES


class NoiseMeter:
    """Starts now; `read` tells what others have used since."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._busy, self._stolen = _machine_s()
        self._ours = _our_s()

    def read(self) -> Noise:
        """Give others' use of the processors from the start until now."""
        elapsed = time.perf_counter() - self._started
        if elapsed < SHORTEST_S:
            return Noise(0.0, 0.0)
        busy, stolen = _machine_s()
        others = (busy - self._busy) - (_our_s() - self._ours)
        return Noise(max(0.0, others / elapsed), max(0.0, (stolen - self._stolen) / elapsed))


def _machine_s() -> tuple[float, float]:
    """Seconds that all processors have worked, and that the host took away."""
    times = psutil.cpu_times()
    busy = times.user + times.system + getattr(times, "irq", 0) + getattr(times, "softirq", 0)
    return busy + getattr(times, "nice", 0), getattr(times, "steal", 0.0)


def _our_s() -> float:
    """Processor time of this process and of all below it, ended ones included."""
    me = psutil.Process()
    spent = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system + times.children_user + times.children_system
    return spent


class Patience:
    """Waits for a quiet machine, in all at most `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds

    def wait(self) -> bool:
        """Wait until nobody works, we included; tell whether that came about."""
        while not _is_idle():
            if self.left_s <= 0:
                return False
            self.left_s -= WINDOW_S + STEP_S
            time.sleep(STEP_S)
        return True


def _is_idle() -> bool:
    busy, stolen = _machine_s()
    time.sleep(WINDOW_S)
    busy_now, stolen_now = _machine_s()
    return bool((busy_now - busy + stolen_now - stolen) / WINDOW_S <= QUIET_CORES)
