"""One request for vectors: batches in, one array out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral_kernel.contracts import Encodable, EncodeItem, Encoder, EngineInfo
from corral_kernel.errors import EngineError, PromptTooLongError
from corral_kernel.frames import Done, Encode, JobEvent, Vectors
from corral_kernel.worker.prompting import CHARACTERS_PER_TOKEN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NORM_FLOOR = 1e-12


def tokenize(encoder: Encoder, spec: Encode) -> list[Encodable]:
    """Tokenize every text, each cut to what the model takes; on a text thread.

    Raises:
        PromptTooLongError: If one is too long and may not be cut.
    """
    limit = encoder.info.truncates_to or None
    most = CHARACTERS_PER_TOKEN * limit if limit else None
    if not spec.truncate and most and any(len(text) > most for text in spec.texts):
        raise PromptTooLongError("the input length exceeds the context length")
    items = [encoder.tokenize(EncodeItem(text=text[:most], limit=limit)) for text in spec.texts]
    if not spec.truncate and limit and any(item.full_length > limit for item in items):
        raise PromptTooLongError("the input length exceeds the context length")
    return items


class Encoding:
    """Texts on their way through an encoder, one bounded batch at a time.

    Args:
        spec: The request.
        items: Its texts, tokenized.
    """

    def __init__(self, spec: Encode, items: Sequence[Encodable]) -> None:
        self.id = spec.job_id
        self._spec = spec
        self._items = items
        self._next = 0
        self._rows: list[NDArray[np.float32]] = []

    @property
    def finished(self) -> bool:
        """Whether all texts are encoded."""
        return self._next >= len(self._items)

    def step(self, encoder: Encoder) -> None:
        """Encode the next batch."""
        if self.finished:
            return
        waiting = self._items[self._next : self._next + encoder.info.slots]
        batch = waiting[: batch_length(waiting, encoder.info)]
        self._rows.append(encoder.encode(batch).copy())
        self._next += len(batch)

    def events(self) -> list[JobEvent]:
        """The vectors, and the end.

        Raises:
            EngineError: If a vector holds NaN or infinity.
        """
        import numpy as np

        tokens = sum(item.length for item in self._items)
        vectors = np.concatenate(self._rows) if self._rows else np.zeros((0, 0), np.float32)
        return vector_events(self._spec, vectors, tokens)


def vector_events(spec: Encode, vectors: "NDArray[np.float32]", tokens: int) -> list[JobEvent]:
    """Make the events of a request for vectors: these, shaped as it asks, and the end.

    Args:
        spec: The request.
        vectors: `(n, dim)`, one row for each of its texts.
        tokens: Of all texts.

    Raises:
        EngineError: If they are of another shape, or one holds NaN or infinity.
    """
    import numpy as np

    if vectors.ndim != 2 or len(vectors) != len(spec.texts):  # noqa: PLR2004 - rows and columns
        shape = "x".join(map(str, vectors.shape))
        raise EngineError(f"the engine gave {shape} numbers for {len(spec.texts)} texts")
    if not np.isfinite(vectors).all():
        raise EngineError("embedding contains NaN or Inf values")
    vectors = shaped(vectors, spec)
    data = vectors.astype("<f4").tobytes()
    return [
        Vectors(job_id=spec.job_id, count=len(vectors), data=data),
        Done(job_id=spec.job_id, reason="stop", prompt_tokens=tokens),
    ]


def shaped(vectors: "NDArray[np.float32]", spec: Encode) -> "NDArray[np.float32]":
    """Cut `(n, dim)` vectors to the dimensions asked for and scale them to length 1 if asked."""
    import numpy as np

    if spec.dimensions and 0 < spec.dimensions < vectors.shape[1]:
        vectors = vectors[:, : spec.dimensions]
    if spec.normalize and vectors.size:
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        vectors = (vectors / np.maximum(norms, NORM_FLOOR)).astype(np.float32)
    return vectors


def batch_length(items: Sequence[Encodable], info: EngineInfo) -> int:
    """How many of the first items one batch takes: at least one."""
    tokens = 0
    for count, item in enumerate(items):
        tokens += item.length
        if count and (tokens > info.batch_tokens or count >= info.slots):
            return count
    return len(items)
