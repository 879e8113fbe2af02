"""Embeddings as JSON text. numpy does the work, and is imported with the first vector."""

from typing import TYPE_CHECKING, Final

import msgspec

from corral_api.wire.numbers import float32_text, float64_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Between these the scaling below is exact: an integer of nine digits over a power of ten to 22.
_SMALLEST: Final = 1e-13
_LARGEST: Final = 1e5
_POWERS: Final = tuple(float(10**power) for power in range(23))
_LOWEST_POWER: Final = -13
_DIGITS: Final = (9, 8, 7, 6)  # nine always do; the fewest that do come last and win


def float32_rows(vectors: "NDArray[np.float32]") -> msgspec.Raw:
    """Write vectors of shape `(n, dim)` as `[[…],…]`, each number by its shortest 32-bit digits.

    Takes tens of milliseconds for half a million numbers: call it off the event loop.

    Raises:
        ValueError: If a number is NaN.
    """
    return _text(_shortest(vectors))


def widened_row(vector: "NDArray[np.float32]") -> msgspec.Raw:
    """Write one vector, shape `(dim,)`, with every 32-bit number widened to 64 bits.

    Raises:
        ValueError: If a number is NaN.
    """
    import numpy as np

    return _text(vector.astype(np.float64))


def _text(values: "NDArray[np.float64]") -> msgspec.Raw:
    """Write numbers by msgspec, except for those that Go writes in another form."""
    import numpy as np

    size = np.abs(values)
    other = (values == np.trunc(values)) | ((size >= 1e-6) & (size < 1e-5)) | ~(size < 1e15)  # noqa: PLR2004
    lists = values.tolist()
    for index in np.argwhere(other).tolist():
        *outer, last = index
        row = lists
        for step in outer:
            row = row[step]
        row[last] = msgspec.Raw(float64_text(row[last]).encode())
    return msgspec.Raw(msgspec.json.encode(lists))


def _shortest(values: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """Give for each float32 the double whose shortest text is the float32's shortest text."""
    import numpy as np

    wide = values.astype(np.float64)
    size = np.abs(wide)
    usual = (size >= _SMALLEST) & (size < _LARGEST)
    size[~usual] = 1.0
    powers = np.asarray(_POWERS)
    exponents = np.floor(np.log10(size)).astype(np.int64)
    bounds = 10.0 ** np.arange(_LOWEST_POWER - 1, 8)
    offset = 1 - _LOWEST_POWER
    exponents += size >= bounds[exponents + 1 + offset]  # the logarithm may be off by one
    exponents -= size < bounds[exponents + offset]
    result = wide.copy()
    for digits in _DIGITS:
        scale = powers[digits - 1 - exponents]
        short = np.rint(wide * scale) / scale
        same = usual & (short.astype(np.float32) == values)
        np.copyto(result, short, where=same)
    for index in np.argwhere(~usual):
        where = tuple(index)
        result[where] = float(float32_text(float(wide[where])))
    return result
