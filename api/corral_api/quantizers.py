"""`/api/quantizers`, a route of our own: the types that models can be made into, and by whom."""

from litestar import Response, get
from litestar.di import NamedDependency
from msgspec import Struct

from corral_api.answers import json_response
from corral_kernel.makers import TypeEntry
from corral_kernel.service import Corral


class QuantizerAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who makes a type, and how."""

    name: str
    plugin: str
    bits_per_weight: float
    docs: str
    imatrix: str  # `takes`, `needs` or `none`
    install: str = ""  # what is to be installed first


class TypeAnswer(Struct, frozen=True, kw_only=True):
    """A type. What is told of it is what the first of its quantizers tells."""

    name: str
    bits_per_weight: float
    docs: str
    imatrix: str
    quantizers: tuple[QuantizerAnswer, ...]  # by name, behind all others those to be installed


class QuantizersResponse(Struct, frozen=True, kw_only=True):
    """`GET /api/quantizers`, the smallest type first."""

    types: tuple[TypeAnswer, ...]


@get("/api/quantizers")
async def quantizers(corral: NamedDependency[Corral]) -> Response[bytes]:
    """List the types, those whose library is missing too."""
    makers: dict[str, list[QuantizerAnswer]] = {}
    for entry in corral.makers.types():
        makers.setdefault(entry.kind.name, []).append(_maker(entry))
    types = sorted(
        (_answer(name, found) for name, found in makers.items()),
        key=lambda kind: (kind.bits_per_weight, kind.name),
    )
    return json_response(QuantizersResponse(types=tuple(types)))


def _maker(entry: TypeEntry) -> QuantizerAnswer:
    return QuantizerAnswer(
        name=entry.quantizer,
        plugin=entry.plugin.name,
        bits_per_weight=entry.kind.bits,
        docs=entry.kind.docs,
        imatrix=entry.kind.imatrix,
        install=entry.install,
    )


def _answer(name: str, makers: list[QuantizerAnswer]) -> TypeAnswer:
    ordered = sorted(makers, key=lambda maker: (bool(maker.install), maker.name))
    return TypeAnswer(
        name=name,
        bits_per_weight=ordered[0].bits_per_weight,
        docs=ordered[0].docs,
        imatrix=ordered[0].imatrix,
        quantizers=tuple(ordered),
    )
