"""Options and rows of logits to try samplers on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, SamplerOptions
from corral_kernel.errors import InvalidOptionError
from corral_kernel.fields import Field, build, fields_of

_NUMBERS = (-1.0, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0, 40.0, 1000.0)
_TEXTS = ("", "e", " the")
_SEED = 20_240_229


def option_values(
    options: type[SamplerOptions], given: Sequence[Mapping[str, Any]] = ()
) -> Iterator[SamplerOptions]:
    """Give options of a type: those given, the defaults, and each field at several values.

    Args:
        options: The type.
        given: Values of fields, as a request's JSON has them.

    Raises:
        InvalidOptionError: If those given do not fit.
    """
    fields = fields_of(options)
    for values in given:
        yield build(options, {name: fields[name].convert(values[name]) for name in values})
    yield options()
    tried = {name: _values(field) for name, field in fields.items()}
    for name, values_of_field in tried.items():
        for value in values_of_field:
            yield from _built(options, {name: value})
    # All fields at once, for what only works together; the same ones on each run.
    generator = np.random.default_rng(_SEED)
    for _ in range(len(fields) * 4 if len(fields) > 1 else 0):
        chosen = {n: v[generator.integers(len(v))] for n, v in tried.items() if v}
        yield from _built(options, chosen)


def _built(options: type[SamplerOptions], values: Mapping[str, Any]) -> Iterator[SamplerOptions]:
    try:
        yield build(options, values)
    except InvalidOptionError:
        return  # a bound that fields do not tell, such as a text's length


def _values(field: Field) -> list[Any]:
    """Values of a field within its bounds, its default and the bounds themselves among them."""
    if field.kind == "boolean":
        return [False, True]
    if field.kind == "choice":
        return list(field.choices)
    if field.kind == "string":
        return [field.default or "", *_TEXTS]
    if field.kind not in ("integer", "float32"):
        return []
    wanted: list[Any] = [*_NUMBERS, *field.bounds.values()]
    found: list[Any] = []
    for value in wanted:
        try:
            converted = field.convert(value)
        except InvalidOptionError:
            continue
        if converted not in found:
            found.append(converted)
    return found


def rows(width: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Give rows of logits as samplers meet them: no NaN, at least one over `-inf`.

    Args:
        width: Tokens that the tokenizer knows.
    """
    generator = np.random.default_rng(_SEED)
    for number in range(3):
        row = generator.normal(-3, 3, width)
        peaks = generator.integers(0, width, 1 + width // 100)
        row[peaks] += generator.gamma(2, 4, len(peaks))
        yield f"random {number}", row.astype(np.float32)
    yield "all equal", np.zeros(width, np.float32)
    yield "rising", np.linspace(-20, 20, width, dtype=np.float32)
    far = np.where(np.arange(width) % 2, 1, -1) * np.float32(3e38)
    yield "as far apart as can be", far.astype(np.float32)
    almost = np.full(width, -np.inf, np.float32)
    almost[width // 3] = 1.5
    yield "one possible", almost
    some = generator.normal(0, 3, width).astype(np.float32)
    some[generator.random(width) < 0.9] = -np.inf  # noqa: PLR2004 - as a mask leaves it
    some[0] = 0.5
    yield "masked", some


def shapes(row: NDArray[np.float32]) -> Iterator[tuple[str, Candidates]]:
    """Give a row as candidates: whole, ordered, a few of them, and one alone.

    Args:
        row: `(n,)`, not modified.
    """
    yield "the whole row", Candidates(row.copy())
    ordered = Candidates(row.copy())
    ordered.sort()
    yield "all, ordered", ordered
    few = Candidates(row.copy())
    few.sort()
    few.head(min(40, len(row)))
    yield "the likeliest 40", few
    best = int(row.argmax())
    index = np.unique(np.array([best, *range(0, len(row), 7)]))
    seventh = Candidates(row.copy())
    seventh.keep(index)
    yield "every seventh", seventh
    yield "one", Candidates(row[[best]].copy(), np.array([best], np.int32), ordered=True)
