"""Numbers as Go's JSON encoder writes them: shortest digits, no `.0`, exponents only far out."""

import math
from decimal import Decimal
from typing import Any, Final

from msgspec import Raw

from corral_kernel.gotext import nearest_float32

_FIXED_FROM: Final = 1e-6
_FIXED_BELOW: Final = 1e21
_INT_BITS: Final = 63


def float64_text(value: float) -> str:
    """Write a 64-bit float: `0.1`, `1`, `1e-7`, `1e+21`.

    Infinities, for which JSON has no word, become the largest finite numbers.

    Raises:
        ValueError: If `value` is NaN.
    """
    if math.isnan(value):
        raise ValueError("NaN has no place in JSON")
    if math.isinf(value):
        return "1.7976931348623157e+308" if value > 0 else "-1.7976931348623157e+308"
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    if _FIXED_FROM <= abs(value) < _FIXED_BELOW:
        return format(Decimal(text), "f")
    return text.replace("e-0", "e-")


def float32_text(value: float) -> str:
    """Write a 32-bit float, given widened, by the fewest digits that tell it from its neighbours.

    Raises:
        ValueError: If `value` is NaN.
    """
    return float64_text(nearest_float32(value))


def go_json(value: Any) -> Any:
    """Prepare a plain value (of a tool's arguments, say): floats are written as Go's.

    Whole numbers stay as they are, of any size.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >> _INT_BITS:
        return Raw(str(value).encode())
    if isinstance(value, float):
        return Raw(float64_text(value).encode())
    if isinstance(value, dict):
        return {key: go_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [go_json(item) for item in value]
    return value
