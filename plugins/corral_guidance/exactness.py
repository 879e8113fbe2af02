"""Numbers of a schema that llguidance keeps exactly: it has them as doubles, written shortest."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from corral_guidance.keywords import Node, escape, is_number, refuse

FAR = 2**53
"""From here on doubles leave out whole numbers."""
MAX_STEP = 2**32 - 1
_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")


def exact_numbers(pointer: str, node: Node) -> None:
    """Move bounds inwards to numbers that are kept exactly.

    Raises:
        InvalidFormatError: For a constant that is not kept exactly.
    """
    for keys, outwards in ((_LOWER, -1), (_UPPER, 1)):
        for key in keys:
            if key in node:
                node[key] = _moved(node[key], outwards)
                if node[key] is None:
                    refuse(f"{pointer}/{key}", "the number has too many digits to be kept exactly")
    if "multipleOf" in node and not _is_step(node["multipleOf"]):
        refuse(f"{pointer}/multipleOf", "the number has too many digits to be kept exactly")
    if "const" in node:
        _check(f"{pointer}/const", node["const"])
    for index, value in enumerate(node.get("enum", ())):
        _check(f"{pointer}/enum/{index}", value)


def _check(pointer: str, value: Any) -> None:
    todo = [(pointer, value)]
    while todo:
        where, value = todo.pop()
        if is_number(value) and not _is_exact(value):
            refuse(where, f"the number {value} has too many digits to be kept exactly")
        if isinstance(value, list):
            todo += [(f"{where}/{index}", item) for index, item in enumerate(value)]
        if isinstance(value, dict):
            todo += [(f"{where}/{escape(key)}", item) for key, item in value.items()]


def _is_step(value: float) -> bool:
    """Whether multiples are of this number: llguidance writes it as a 32-bit one and a power of 10.

    It does so by doubles, which some short numbers (0.07) do not survive.
    """
    if not _is_exact(value):
        return False
    scaled, places = float(value), 0
    while scaled % 1:
        scaled, places = scaled * 10, places + 1
    return scaled <= MAX_STEP and Decimal(int(scaled)).scaleb(-places) == Decimal(str(value))


def _is_exact(value: float) -> bool:
    kept = _double(value)
    return math.isfinite(kept) and Decimal(repr(kept)) == Decimal(str(value))


def _double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _moved(value: float, outwards: int) -> float | None:
    """Give a bound that is kept exactly: one that is far out comes in."""
    if value * outwards > FAR:
        return outwards * FAR
    return value if _is_exact(value) else None
