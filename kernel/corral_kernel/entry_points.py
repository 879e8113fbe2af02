"""Entry points of plugins: what is installed, before any of it is imported."""

import importlib.metadata

GROUP = "corral"
"""Entry-point group by which plugins are found."""

_FAULTS = (Exception,)


def distribution_of(entry_point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    """Name and version of what it came with; metadata that cannot be read has none."""
    try:
        dist = entry_point.dist
        found = (dist.name, dist.version) if dist else None
    except _FAULTS:  # old and hand-made installations lack files, and each lack raises its own
        found = None
    return found if found and all(found) else ("unknown", "0")


def found_entry_points() -> list[importlib.metadata.EntryPoint]:
    """All of the group, by distribution and name: the order in which clashes end."""
    points = importlib.metadata.entry_points(group=GROUP)
    return sorted(points, key=lambda point: (distribution_of(point)[0].lower(), point.name))
