"""What the scheduler keeps to."""

from msgspec import Struct

from corral_kernel.errors import OutOfMemoryError
from corral_kernel.scheduler.want import Want

NS = 1_000_000_000
AUTOMATIC_SLOTS = 4
LIGHT_SLOTS = 256
MOST_LIGHT = 16
"""Workers at once that hold nothing but connections, and requests at once of each."""
SLOTS_SHARE = 0.25
"""Contexts of automatic slots may take this share of the memory budget together."""


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds on loaded models and on requests.

    Args:
        max_loaded: Models at once; 0: automatic.
        max_queue: Requests that may wait, for a load or for a slot.
        budget_bytes: Memory of all models; None: by what is free at the start.
        keep_alive_ns: Of a model whose request does not tell.
    """

    max_loaded: int = 0
    max_queue: int = 512
    budget_bytes: int | None = None
    keep_alive_ns: int = 300 * NS


def slots_for(want: Want, budget_bytes: int) -> int:
    """Requests at once: as asked for, else up to four by memory; never over the engine's.

    What is asked for is for models that lie in memory here.
    """
    if want.is_light:
        return want.claim.slots or LIGHT_SLOTS
    slots = want.slots
    if slots is None:
        context_bytes = max(1, want.memory_bytes(1) - want.memory_bytes(0))
        room = int(budget_bytes * SLOTS_SHARE // context_bytes)
        slots = max(1, min(AUTOMATIC_SLOTS, room))
    return min(slots, want.claim.slots) if want.claim.slots else slots


def too_large(need_bytes: int, budget_bytes: int) -> OutOfMemoryError:
    """The error for a model that does not fit even alone."""
    return OutOfMemoryError(
        f"model requires more system memory ({_size(need_bytes)}) than is available "
        f"({_size(budget_bytes)}): set CORRAL_MEMORY_BUDGET, or lower num_ctx"
    )


def _size(size_bytes: int) -> str:
    unit, name = (1 << 30, "GiB") if size_bytes >= 1 << 30 else (1 << 20, "MiB")
    return f"{size_bytes / unit:.1f} {name}"
