"""Texts to vectors or scores with llama.cpp."""

import ctypes
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from corral_kernel.checking import check_encodable
from corral_kernel.contracts import Encodable, EncodeItem, Encoder, EngineInfo
from corral_kernel.errors import (
    EngineError,
    UnsupportedError,
)
from corral_llamacpp.batch import Batch
from corral_llamacpp.binding import lib
from corral_llamacpp.native import NativeContext, NativeModel
from corral_llamacpp.tokenizer import LlamaTokenizer

_ROWS_BYTES = 64 << 20
"""The library keeps a row of logits for every token of a batch, wanted or not."""


class LlamaEncoder(Encoder):
    """See `Encoder`. Vectors are the model's own pooling of its rows.

    Args:
        model: Loaded; the encoder's from now on, like the context.
        context: Over it, for embeddings.
        info: What it is; `slots` is how many items one batch takes.
    """

    def __init__(self, model: NativeModel, context: NativeContext, info: EngineInfo) -> None:
        self.info = info
        self.tokenizer = LlamaTokenizer(model)
        self._model = model
        self._context = context
        self._batch = Batch(info.batch_tokens)
        self._before, self._after = self.tokenizer.frame()
        self._step_tokens = min(info.batch_tokens, _ROWS_BYTES // (4 * model.vocab_size))
        ranks = lib.llama_pooling_type(context.pointer) == lib.LLAMA_POOLING_TYPE_RANK
        self._ranks = ranks
        # A model that scores may give several classes; the first is the score.
        self._width = 1 if ranks else int(lib.llama_model_n_embd_out(model.pointer))

    # ------------------------------------------------------------------ on text threads

    def tokenize(self, item: EncodeItem) -> Encodable:
        """See `Encoder`. Control tokens written in a text become those tokens, as for Ollama.

        Raises:
            UnsupportedError: For a pair, of a model that scores none.
        """
        if item.pair is None:
            before, after = self._before, self._after
            ids = self.tokenizer.encode_beginning(item.text, special=True)
        else:
            before, after = [], []
            ids = self._pair(item.text, item.pair)
        framed = [*before, *ids, *after]
        full_length = len(framed)
        if item.limit is not None and full_length > item.limit:
            kept = max(0, item.limit - len(before) - len(after))
            framed = [*before, *ids[:kept], *after][: item.limit]
        return Encodable(framed, full_length)

    def _pair(self, query: str, passage: str) -> list[int]:
        if not self._ranks:
            raise UnsupportedError("this model gives vectors of texts, not scores of pairs")
        template = lib.llama_model_chat_template(self._model.pointer, b"rerank")
        if template:
            text = template.decode(errors="replace").replace("{query}", query)
            text = text.replace("{document}", passage)
            return self.tokenizer.encode_beginning(text, special=True)
        query_ids = self.tokenizer.encode_beginning(query, special=False)
        passage_ids = self.tokenizer.encode_beginning(passage, special=False)
        begin, between, end = self.tokenizer.pair_marks
        return [*begin, *query_ids, *between, *passage_ids, *end]

    # ------------------------------------------------------------------ on the engine thread

    def encode(self, batch: Sequence[Encodable]) -> NDArray[np.float32]:
        """See `Encoder`.

        Raises:
            PromptTooLongError: If an item alone is over the batch.
        """
        for item in batch:
            check_encodable(item, self.info.batch_tokens, self._model.vocab_size)
        vectors = np.empty((len(batch), self._width), np.float32)
        for start, stop in self._steps([max(1, item.length) for item in batch]):
            self._run(batch[start:stop], vectors[start:stop])
        return vectors

    def _steps(self, lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Cut a batch so that the library's rows of it stay small; one item is never cut."""
        start = tokens = 0
        for stop, length in enumerate(lengths):
            if stop > start and (
                tokens + length > self._step_tokens or stop - start >= self.info.slots
            ):
                yield start, stop
                start, tokens = stop, 0
            tokens += length
        if start < len(lengths):
            yield start, len(lengths)

    def _run(self, items: Sequence[Encodable], out: NDArray[np.float32]) -> None:
        self._batch.clear()
        for sequence, item in enumerate(items):
            self._batch.add(item.token_ids, 0, sequence, item.length)
        if self._context.memory:
            lib.llama_memory_clear(self._context.memory, False)  # noqa: FBT003 (native)
        code = lib.llama_decode(self._context.pointer, self._batch.native)
        if code:
            reason = self._model.log.troubles()
            raise EngineError(f"llama.cpp failed to encode {len(items)} inputs ({code}): {reason}")
        for sequence, row in enumerate(out):
            vector = lib.llama_get_embeddings_seq(self._context.pointer, sequence)
            if not vector:
                raise EngineError("llama.cpp gave no vector for an input")
            address = ctypes.cast(vector, ctypes.c_void_p).value
            assert address is not None
            row[:] = np.ctypeslib.as_array((ctypes.c_float * self._width).from_address(address))

    def close(self) -> None:
        """See `Engine`."""
        self._context.free()
        self._model.free()
