"""`/api/quantizers`, a route of our own: the types that models can be made into, and by whom."""

from litestar import Response, get
from litestar.di import NamedDependency
from msgspec import Struct

from corral_api.answers import json_response
from corral_kernel.makers import TypeEntry
from corral_kernel.service import Corral


class TypeAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A type. One that several make comes once for each; what is wanted by it is the best offer."""

    name: str
    bits_per_weight: float
    docs: str
    imatrix: str  # `takes`, `needs` or `none`
    owner: str  # the quantizer
    plugin: str
    install: str = ""  # what is to be installed first


class QuantizersResponse(Struct, frozen=True, kw_only=True):
    """`GET /api/quantizers`, the smallest type first."""

    types: tuple[TypeAnswer, ...]


@get("/api/quantizers")
async def quantizers(corral: NamedDependency[Corral]) -> Response[bytes]:
    """List the types, those whose library is missing too."""
    return json_response(QuantizersResponse(types=tuple(map(_answer, corral.makers.types()))))


def _answer(entry: TypeEntry) -> TypeAnswer:
    return TypeAnswer(
        name=entry.kind.name,
        bits_per_weight=entry.kind.bits,
        docs=entry.kind.docs,
        imatrix=entry.kind.imatrix,
        owner=entry.quantizer,
        plugin=entry.plugin.name,
        install=entry.install,
    )
