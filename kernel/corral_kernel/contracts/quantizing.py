"""Quantizers: models made smaller."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from corral_kernel.contracts.making import MadeFile, Maker, Offer, Source, Work


class QuantizationType(Struct, frozen=True, kw_only=True):
    """A type that a quantizer can make.

    Args:
        name: In capitals, as users know it: `Q4_K_M`.
        bits: For each weight, on the average of a usual model.
        docs: One line for people.
        imatrix: What an importance matrix is to it: it may be given, it must be, or it may not.
    """

    name: str
    bits: Annotated[float, Meta(gt=0, le=64)]
    docs: str = ""
    imatrix: Literal["takes", "needs", "none"] = "none"


class Quantizer(Maker):
    """Makes models of some formats smaller.

    Its entry module is light, as any plugin's: `types` and `offer` are asked in the server,
    `quantize` in a task process, and only there may its library be imported.
    """

    types: Sequence[QuantizationType] = ()

    def offer(self, source: Source, type_name: str) -> Offer | None:
        """Bid for making a model into one of the types, or return `None`.

        Called in the server: at once, and from what it is given alone.

        Raises:
            CorralError: If it knows the type and the format, and cannot do it all the same. The
                message is the user's answer, unless another quantizer makes an offer.
        """
        raise NotImplementedError

    def quantize(
        self, work: Work, type_name: str, imatrix: Path | None = None
    ) -> Sequence[MadeFile]:
        """Quantize. Called once in a process, in its main thread, where nobody else waits for it.

        The same source gives the same bytes each time.

        Args:
            work: What to read and where to write.
            type_name: One of its types.
            imatrix: A file with an importance matrix, for a type that takes one.

        Raises:
            CorralError: If the source or the matrix is damaged or does not fit.
        """
        raise NotImplementedError
