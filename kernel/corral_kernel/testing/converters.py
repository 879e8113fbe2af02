"""The contract of a converter, as tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from msgspec import Struct

from corral_kernel.contracts import Converter, Source
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


class Sample(Struct, frozen=True, kw_only=True):
    """A source that a converter takes.

    Args:
        folder: Its files.
        kind: Of it.
        base: The GGUF file that an adapter is for.
        architecture: Of that.
    """

    folder: Path
    kind: Literal["model", "adapter"] = "model"
    base: Path | None = None
    architecture: str = ""

    def source(self) -> Source:
        """Give it as the server describes it."""
        return source_of(self.folder, self.kind, architecture=self.architecture)


class ConverterSuite:
    """What every converter must do.

    Attributes:
        converter: To try.
        samples: Sources that it takes; small ones.
    """

    converter: ClassVar[Converter]
    samples: ClassVar[Sequence[Sample]] = ()

    def test_it_says_what_it_is(self) -> None:
        """People are told of it, and what to install."""
        demand_described(self.converter)

    def test_it_offers_nothing_for_what_it_does_not_know(self) -> None:
        """Others convert that."""
        offer = attempt("offer for what is unknown", self.converter.offer, STRANGER)
        demand(offer is None, f"it made an offer for {STRANGER.format}: {offer!r}")

    def test_it_offers_the_same_each_time(self) -> None:
        """An offer depends on its source alone."""
        for sample in self.samples:
            source = sample.source()
            first = demand_offer(self.converter.offer(source), str(sample.folder))
            demand(first == self.converter.offer(source), "a second offer is another one")

    def test_it_converts_its_samples_to_the_same_bytes_each_time(self) -> None:
        """What is made is stored by digest: the same model has the same one."""
        for sample in self.samples:
            first = self._convert(sample, sample.folder)
            demand(first == self._convert(sample, sample.folder), "a second time it made others")

    def test_it_refuses_damaged_files(self) -> None:
        """A source that ends in the middle is told of, in words."""
        for sample in self.samples:
            with damaged(sample.folder) as folder:
                demand_refusal(
                    lambda sample=sample, folder=folder: self._convert(sample, folder),  # type: ignore[misc] # mypy knows no defaults of lambdas
                    f"{sample.folder.name} with half of its largest file",
                )

    def _convert(self, sample: Sample, folder: Path) -> dict[str, str]:
        source = sample.source()
        offer = demand_offer(self.converter.offer(source), str(sample.folder))
        files = references(folder, sample.base)
        with made_by(self.converter.convert, source, offer, files) as made:
            return digests_of(made)
