"""Floating-point numbers as `%e`, `%f` and `%g` print them."""

from __future__ import annotations

import math

from corral_kernel.gotext import format_number

_DEFAULT_DIGITS = 6


def format_float(value: float, verb: str, precision: int | None, *, keep_zeros: bool) -> str:
    """Print a number without padding.

    Args:
        value: To print.
        verb: One of `e`, `f`, `g`, `E`, `G`.
        precision: Digits after the point, of all for `g`; None: the shortest that are exact.
        keep_zeros: Show a point and zeros behind it, for the flag `#`.
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if verb in "efE":
        text = f"{value:.{precision}{verb}}"
        return text if "." in text or not keep_zeros or verb != "f" else text + "."
    text = format_number(value) if precision is None else f"{value:.{precision}g}"
    if keep_zeros:
        text = _with_zeros(text, _DEFAULT_DIGITS if precision is None else precision)
    return text.upper() if verb == "G" else text


def _with_zeros(text: str, digits: int) -> str:
    mantissa, mark, exponent = text.partition("e")
    if "." not in mantissa:
        mantissa += "."
    shown = len(mantissa.replace("-", "").replace(".", "").lstrip("0"))
    shown += mantissa.strip("-") == "0."
    return mantissa + "0" * max(0, digits - shown) + mark + exponent
