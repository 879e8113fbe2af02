"""Vectors from `/embeddings`."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts.text import TextVectors
from corral_kernel.errors import RemoteServerError
from corral_remote.wire import Vector, Vectors, decode

BATCH_TEXTS: Final = 128
ANSWER_BYTES: Final = 64 << 20
"""Of one batch: 128 vectors of 16,384 numbers, each in 20 digits, are 42 MB."""


def body(target: str, texts: Sequence[str]) -> dict[str, Any]:
    """Make the request for one batch; whole vectors, which are cut here if that is asked."""
    return {"model": target, "input": list(texts), "encoding_format": "float"}


def read(data: bytes, where: str, count: int) -> TextVectors:
    """Read the answer to one batch.

    Args:
        data: The body.
        where: The base URL, for errors.
        count: Texts that were sent.

    Raises:
        RemoteServerError: If it has not one vector for each, all of one length.
    """
    answer = decode(data, Vectors, f"what {where} gives as vectors")
    if len(answer.data) != count:
        raise RemoteServerError(f"{where} gave {len(answer.data)} vectors for {count} texts")
    rows = [_row(vector, where) for vector in _ordered(answer.data, where)]
    if len({row.size for row in rows}) != 1 or not rows[0].size:
        raise RemoteServerError(f"{where} gave vectors that are empty or of unequal lengths")
    tokens = answer.usage.prompt_tokens if answer.usage else None
    return TextVectors(rows=np.stack(rows), prompt_tokens=max(tokens or 0, 0))


def _ordered(given: list[Vector], where: str) -> list[Vector]:
    """Put vectors into the order of their texts; without indices they are in it."""
    if all(vector.index is None for vector in given):
        return given
    by_index = {vector.index: vector for vector in given}
    try:
        return [by_index[place] for place in range(len(given))]
    except KeyError:
        raise RemoteServerError(f"{where} numbered its vectors wrong") from None


def _row(vector: Vector, where: str) -> NDArray[np.float32]:
    if isinstance(vector.embedding, list):
        return np.asarray(vector.embedding, dtype=np.float32)
    try:
        data = base64.b64decode(vector.embedding, validate=True)
        return np.frombuffer(data, dtype="<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        raise RemoteServerError(f"{where} gave a vector that is no base64 of float32") from None
