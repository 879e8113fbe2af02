"""How much memory models may take in all."""

import os
import sys
from pathlib import Path

FREE_SHARE = 0.8
"""Of what is free when it is asked, models may take this much."""

FALLBACK_BYTES = 4 << 30


def default_budget_bytes() -> int:
    """Four fifths of the memory that is available now, minding a container's limit."""
    limits = [_available_bytes(), *_container_free_bytes()]
    return int(min(limits) * FREE_SHARE)


def _available_bytes() -> int:
    if sys.platform == "linux":
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return FALLBACK_BYTES


def _container_free_bytes() -> list[int]:
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        used = (root / "memory.current").read_text().strip()
        return [max(0, int(limit) - int(used))]
    except (OSError, ValueError):
        return []  # no version-2 control group, or no limit ("max")
