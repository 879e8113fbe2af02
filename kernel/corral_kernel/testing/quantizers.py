"""The contract of a quantizer, as tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from corral_kernel.contracts import MadeFile, Quantizer, Work
from corral_kernel.gguf import read_header
from corral_kernel.testing.making import (
    STRANGER,
    damaged,
    demand_described,
    demand_offer,
    demand_refusal,
    digests_of,
    made_by,
    references,
    source_of,
)
from corral_kernel.testing.suites import attempt, demand


class QuantizerSuite:
    """What every quantizer must do.

    Attributes:
        quantizer: To try.
        source: A small model that it takes: a GGUF file or a folder; None: only what needs none
            is tried.
        format_name: Of a folder.
        imatrix: An importance matrix for that model, where some type needs one.
        slow_types: Types that are not made, only asked for.
    """

    quantizer: ClassVar[Quantizer]
    source: ClassVar[Path | None] = None
    format_name: ClassVar[str] = "onnx"
    imatrix: ClassVar[Path | None] = None
    slow_types: ClassVar[Sequence[str]] = ()

    def test_it_says_what_it_is(self) -> None:
        """People are told of it, and what to install."""
        demand_described(self.quantizer)

    def test_its_types_are_named_in_capitals_and_documented(self) -> None:
        """As users know them; each once."""
        names = [kind.name for kind in self.quantizer.types]
        demand(names, "it has no types")
        demand(len(set(names)) == len(names), f"a type comes twice: {names}")
        for kind in self.quantizer.types:
            demand(kind.name == kind.name.upper(), f"{kind.name} is not in capitals")
            demand(kind.docs, f"{kind.name} has no docs: one line for people")
            demand(kind.bits > 0, f"{kind.name} has {kind.bits} bits a weight")

    def test_it_offers_nothing_for_what_it_does_not_know(self) -> None:
        """Others quantize that."""
        for kind in self.quantizer.types:
            offer = attempt("an offer", self.quantizer.offer, STRANGER, kind.name)
            demand(offer is None, f"it made an offer for {STRANGER.format}: {offer!r}")
        if self.source is not None:
            described = source_of(self.source, format_name=self.format_name)
            offer = attempt("an offer", self.quantizer.offer, described, "NO_SUCH_TYPE")
            demand(offer is None, f"it made an offer for NO_SUCH_TYPE: {offer!r}")

    def test_it_makes_each_of_its_types(self) -> None:
        """With true progress, of the same bytes each time, and no file of the source changed."""
        for kind in self.quantizer.types:
            if self.source is not None and kind.name not in self.slow_types:
                first = self._quantize(self.source, kind.name)
                again = self._quantize(self.source, kind.name)
                demand(first == again, f"{kind.name} was other bytes a second time")

    def test_it_refuses_damaged_files(self) -> None:
        """A model that ends in the middle is told of, in words."""
        if self.source is None:
            return
        name = self.quantizer.types[0].name
        with damaged(self.source) as copy:
            demand_refusal(lambda: self._quantize(copy, name), "half a model")

    def _quantize(self, path: Path, type_name: str) -> dict[str, str]:
        assert self.source is not None, "asked for with a source alone"
        source = source_of(self.source, format_name=self.format_name)
        offer = demand_offer(self.quantizer.offer(source, type_name), type_name)

        def quantize(work: Work) -> Sequence[MadeFile]:
            return self.quantizer.quantize(work, type_name, self._matrix_for(type_name))

        with made_by(quantize, source, offer, references(path)) as made:
            for file, where in made.items():
                if file.role != "file":
                    stored = read_header(where).file_type_name
                    demand(stored == type_name, f"asked for {type_name}, it made {stored}")
            return digests_of(made)

    def _matrix_for(self, type_name: str) -> Path | None:
        """Give the matrix to types that need one alone."""
        needs = {kind.name for kind in self.quantizer.types if kind.imatrix == "needs"}
        return self.imatrix if type_name in needs else None
