"""Texts to vectors, or pairs of texts to scores."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from corral_kernel.checking import check_encodable
from corral_kernel.contracts import Encodable, EncodeItem, Encoder, EngineInfo
from corral_kernel.errors import (
    EngineError,
    UnsupportedError,
)
from corral_onnx.framing import Frame
from corral_onnx.pooling import Pooling
from corral_onnx.session import Session
from corral_onnx.tokenizer import OnnxTokenizer

_ROWS = 3  # dimensions of what is not pooled yet


class OnnxEncoder(Encoder):
    """See `Encoder`.

    Args:
        session: The graph.
        tokenizer: Of it.
        pooling: From rows to vectors; None: the graph gives scores.
        info: What it is; `slots` is how many items one batch takes.
    """

    def __init__(
        self,
        session: Session,
        tokenizer: OnnxTokenizer,
        pooling: Pooling | None,
        info: EngineInfo,
    ) -> None:
        self.info = info
        self.tokenizer = tokenizer
        self._session = session
        self._pooling = pooling
        self._single = Frame.of(tokenizer.raw.encode("a"))
        self._pair = Frame.of(tokenizer.raw.encode("a", "a"))

    # ------------------------------------------------------------------ on text threads

    def tokenize(self, item: EncodeItem) -> Encodable:
        """See `Encoder`. In a single text the text of a control token becomes it, as for Ollama.

        Raises:
            UnsupportedError: For a pair, of a model that scores none.
        """
        encode = self.tokenizer.encode_beginning
        frame, second = self._single, list[int]()
        if item.pair is not None:
            if self._pooling is not None:
                raise UnsupportedError("this model gives vectors of texts, not scores of pairs")
            frame, second = self._pair, encode(item.pair, special=False)
        first = encode(item.text, special=item.pair is None)
        ids, types = frame.around(first, second, item.limit)
        return Encodable(ids, frame.length + len(first) + len(second), types)

    # ------------------------------------------------------------------ on the engine thread

    def encode(self, batch: Sequence[Encodable]) -> NDArray[np.float32]:
        """See `Encoder`.

        Raises:
            PromptTooLongError: If an item alone is over the batch.
        """
        for item in batch:
            check_encodable(item, self.info.batch_tokens, len(self.tokenizer.pieces))
        out: NDArray[np.float32] | None = None
        for places in self._groups(batch):
            vectors = self._run([batch[place] for place in places])
            if out is None:
                out = np.empty((len(batch), vectors.shape[1]), np.float32)
            out[places] = vectors
        assert out is not None, "a batch has at least one item"
        return out

    def _groups(self, batch: Sequence[Encodable]) -> Iterator[list[int]]:
        """Cut a batch into runs of texts of like lengths: shorter ones are padded."""
        places = sorted(range(len(batch)), key=lambda place: batch[place].length)
        group: list[int] = []
        for place in places:
            padded = batch[place].length * (len(group) + 1)
            if group and (self._session.mixes_texts or padded > self.info.batch_tokens):
                yield group
                group = []
            group.append(place)
        yield group

    @staticmethod
    def _types(item: Encodable) -> Sequence[int]:
        return item.payload if isinstance(item.payload, list) else [0] * item.length

    def _run(self, items: Sequence[Encodable]) -> NDArray[np.float32]:
        types = [self._types(item) for item in items]
        rows, mask = self._session.run([item.token_ids for item in items], types)
        if self._pooling is None:
            if rows.ndim == _ROWS or rows.shape[1] != 1:
                raise EngineError(f"the graph gave {rows.shape[1:]} numbers a pair, wanted a score")
            return rows
        return self._pooling(rows, mask) if rows.ndim == _ROWS else rows

    def close(self) -> None:
        """See `Engine`."""
        self._session.close()
