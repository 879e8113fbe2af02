"""How many CPU threads pay off here, and how much memory there is."""

import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def physical_cores(cpus: Path = _CPUS, cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Physical cores that this process may use: its affinity, and its cgroup's share of time.

    Where the system does not tell which CPUs share a core, each CPU counts as one.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    else:  # macOS tells no affinity
        allowed = set(range(os.cpu_count() or 1))
    cores = {_siblings(cpus, cpu) for cpu in allowed}
    return max(1, min(len(cores), _time_share(cgroup_limit)))


def memory_bytes() -> int:
    """Memory of the machine; 0: it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


def _siblings(cpus: Path, cpu: int) -> str:
    try:
        return (cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _time_share(cgroup_limit: Path) -> int:
    """CPUs' worth of time, rounded up: `cpu.max` reads "200000 100000", or "max 100000"."""
    unlimited = 1 << 16
    try:
        quota, period = cgroup_limit.read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return unlimited
