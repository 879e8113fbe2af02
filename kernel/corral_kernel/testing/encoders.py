"""What the contract asks of an engine that gives vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Encodable, EncodeItem, Encoder, EngineInfo
from corral_kernel.errors import CorralError
from corral_kernel.testing.suites import attempt, demand

_LIMIT = 8


class EncoderSuite:
    """Tests of one encoder. A subclass loads it in `engine`.

    Attributes:
        texts: To encode, of different lengths.
        tolerance: How far an element may be off where texts are computed together, as a share of
            the largest.
    """

    texts: ClassVar[Sequence[str]] = (
        "a llama",
        "x",
        "What a longer text this is, is it not? It goes on for a while.",
        "Ünïcode 🦙\n\t and\0more",
    )
    tolerance: ClassVar[float] = 1e-2

    def engine(self) -> Encoder:
        """Load a small model."""
        raise NotImplementedError

    def test_it_says_what_it_is(self) -> None:
        """The worker and the scheduler go by it."""
        encoder = self.engine()
        info: object = encoder.info
        demand(isinstance(info, EngineInfo), f"info is {type(info).__name__}, not an EngineInfo")
        demand(encoder.info.batch_tokens > 0, "batch_tokens is not over 0")
        demand(encoder.info.slots > 0, "slots, its items a batch, is not over 0")
        demand("embedding" in encoder.info.capabilities, "no embedding among its capabilities")
        most = encoder.info.truncates_to
        demand(most <= encoder.info.batch_tokens, f"a text of {most} tokens is over its batch")
        encoder.close()

    def test_a_text_is_cut_to_its_limit(self) -> None:
        """Its whole length is told all the same, and what stands at both ends stays there."""
        encoder = self.engine()
        for text in self.texts:
            whole = encoder.tokenize(EncodeItem(text=text))
            demand(whole.full_length == whole.length, f"{text!r} was cut, with no limit")
            for limit in (whole.length - 1, whole.length, whole.length + 1, _LIMIT):
                if limit < 1:
                    continue
                cut = encoder.tokenize(EncodeItem(text=text, limit=limit))
                wanted = min(limit, whole.length)
                demand(cut.length <= limit, f"{text!r} has {cut.length} tokens of {limit}")
                demand(cut.length == wanted, f"{text!r} has {cut.length} tokens, {wanted} fit")
                told = cut.full_length
                demand(told == whole.length, f"{text!r}: full_length {told}, not {whole.length}")
        self._demand_framed(encoder)
        encoder.close()

    def _demand_framed(self, encoder: Encoder) -> None:
        """Ids that every text begins or ends with stay when it is cut."""
        for place, where in ((0, "begins"), (-1, "ends")):
            found = {encoder.tokenize(EncodeItem(text=t)).token_ids[place] for t in self.texts}
            if len(found) > 1:
                continue
            (special,) = found
            cut = encoder.tokenize(EncodeItem(text=self.texts[2], limit=_LIMIT))
            kept = cut.token_ids[place]
            demand(kept == special, f"every text {where} with {special}, one that is cut: {kept}")

    def test_each_text_has_a_row_of_numbers(self) -> None:
        """One text or as many as there are slots."""
        encoder = self.engine()
        for count in {1, 2, min(encoder.info.slots, len(self.texts))}:
            items = self._items(encoder)[: min(count, encoder.info.slots)]
            rows = attempt(f"encode of {len(items)} texts", encoder.encode, items)
            demand(rows.dtype == np.float32, f"vectors of {rows.dtype}, not float32")
            demand(rows.ndim == 2, f"vectors of shape {rows.shape}, not (n, dim)")  # noqa: PLR2004 - rows and columns
            demand(len(rows) == len(items), f"{len(rows)} vectors of {len(items)} texts")
            demand(np.isfinite(rows).all(), "vectors hold NaN or infinity")
        encoder.close()

    def test_texts_together_have_the_vectors_that_each_has_alone(self) -> None:
        """Whatever their order and their lengths."""
        encoder = self.engine()
        items = self._items(encoder)
        alone = np.concatenate([encoder.encode([item]).copy() for item in items])
        for order in (range(len(items)), range(len(items) - 1, -1, -1)):
            together = self._encode(encoder, [items[i] for i in order])
            off = float(np.abs(together - alone[list(order)]).max() / np.abs(alone).max())
            demand(off <= self.tolerance, f"texts together are {off:.2g} off what each is alone")
        far = float(np.abs(alone[0] - alone[2]).max() / np.abs(alone).max())
        demand(far > self.tolerance, "two texts have one vector")
        encoder.close()

    def test_a_text_of_full_length_is_encoded(self) -> None:
        """And the batch holds it."""
        encoder = self.engine()
        limit = encoder.info.truncates_to or encoder.info.batch_tokens
        item = encoder.tokenize(EncodeItem(text="word " * limit, limit=limit))
        demand(item.length <= limit, f"it has {item.length} tokens of {limit}")
        rows = attempt(f"encode of {item.length} tokens", encoder.encode, [item])
        demand(np.isfinite(rows).all(), "its vector holds NaN or infinity")
        encoder.close()

    def test_an_empty_text_has_a_vector_or_an_error(self) -> None:
        """And nothing worse."""
        encoder = self.engine()
        try:
            rows = encoder.encode([encoder.tokenize(EncodeItem(text=""))])
        except CorralError as error:
            demand(str(error), "an empty text is refused without a word")
        else:
            demand(np.isfinite(rows).all(), "its vector holds NaN or infinity")
        attempt("encode after an empty text", self._encode, encoder, self._items(encoder))
        encoder.close()

    # -------------------------------------------------------------------- how it is tried

    def _items(self, encoder: Encoder) -> list[Encodable]:
        limit = encoder.info.truncates_to or encoder.info.batch_tokens
        return [encoder.tokenize(EncodeItem(text=text, limit=limit)) for text in self.texts]

    def _encode(self, encoder: Encoder, items: Sequence[Encodable]) -> NDArray[np.float32]:
        """As the worker does: in batches of what the engine takes."""
        rows: list[NDArray[np.float32]] = []
        batch: list[Encodable] = []
        for item in items:
            full = sum(i.length for i in batch) + item.length > encoder.info.batch_tokens
            if batch and (full or len(batch) == encoder.info.slots):
                rows.append(encoder.encode(batch).copy())
                batch = []
            batch.append(item)
        rows.append(encoder.encode(batch).copy())
        return np.concatenate(rows)
