"""Texts that no repeated sequence goes across, as tokens."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Tokenizer

LONGEST_TAIL = 20
"""Tokens of a breaker that are looked at after the one that it begins in."""

_CONTINUATION = bytes(range(0x80, 0xC0))
"""Bytes that stand within a letter, never at its beginning."""

Tails = dict[int, set[tuple[int, ...]]]
"""What follows the first token of a breaker, by how many tokens that is."""


class Breakers:
    """Sequences of tokens that contain one of some texts.

    A text may begin in the middle of a token, and end in one.

    Args:
        whole: Whether each token contains one of the texts by itself, bool `(pieces,)`.
        tails: For tokens that end with the beginning of one: what must follow.
    """

    def __init__(self, whole: NDArray[np.bool_], tails: dict[int, Tails]) -> None:
        # One more than there are tokens: media, which are -1, find it at the end.
        self._whole = np.append(whole, np.False_)
        self._heads = self._whole.copy()
        self._heads[list(tails)] = True
        self._tails = tails

    def whole(self, token_ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether tokens contain one of the texts by themselves."""
        found: NDArray[np.bool_] = self._whole[token_ids]
        return found

    def tokens_since(self, token_ids: NDArray[np.int32], most: int) -> int:
        """How many tokens follow the last sequence that contains one of the texts.

        Args:
            token_ids: Positions to look at `(n,)`; media are -1.
            most: More than this need not be told apart.

        Returns:
            At most `n`, which is also the answer where there is none.
        """
        window = token_ids[-(most + LONGEST_TAIL + 1) :]
        places: list[int] = self._heads[window].nonzero()[0].tolist()
        for place in reversed(places):
            tail = self._tail(window[place : place + LONGEST_TAIL + 1].tolist())
            if tail is not None:
                return len(window) - 1 - place - tail
        return len(token_ids)

    def _tail(self, token_ids: list[int]) -> int | None:
        """How many of the tokens after the first are the longest breaker's; None: there is none."""
        head, *rest = token_ids
        tails = self._tails.get(head, {})
        for count in sorted(tails, reverse=True):
            if count <= len(rest) and tuple(rest[:count]) in tails[count]:
                return count
        return 0 if self._whole[head] else None


@lru_cache(maxsize=32)
def breakers_of(tokenizer: Tokenizer, texts: tuple[str, ...]) -> Breakers:
    """Find the sequences of tokens that contain one of some texts.

    Args:
        tokenizer: The model's; found ones are kept for it, as requests come with the same texts.
        texts: None empty.
    """
    pieces = _pieces_of(tokenizer)
    whole = np.zeros(pieces.count, bool)
    tails: dict[int, Tails] = {}
    for text in texts:
        data = text.encode()
        inside = pieces.containing(data)
        whole[inside] = True
        for taken in range(1, len(data)):
            heads = np.setdiff1d(pieces.ending_with(data[:taken]), inside, assume_unique=True)
            tail = _tokens_of(tokenizer, pieces, data[taken:]) if len(heads) else None
            if tail is None:
                continue
            for head in heads.tolist():
                tails.setdefault(head, {}).setdefault(len(tail), set()).add(tail)
    return Breakers(whole, tails)


class Pieces:
    """The bytes of all tokens in a row, to be searched quickly."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = list(tokenizer.pieces)
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        self.count = len(lengths)
        self._lengths = lengths
        self._ends = lengths.cumsum()
        # One more byte, so that there is one to look at where there are no tokens.
        self._bytes = np.frombuffer(b"".join(pieces) + b"\0", np.uint8)
        last = np.where(lengths > 0, self._bytes[self._ends - 1], 0)
        self._by_last = last.argsort(kind="stable")
        self._bounds = last[self._by_last].searchsorted(np.arange(257))

    def containing(self, data: bytes) -> NDArray[np.intp]:
        """Ids of the tokens that contain some bytes."""
        places = (self._bytes[: max(0, len(self._bytes) - len(data))] == data[0]).nonzero()[0]
        for offset, byte in enumerate(data[1:], 1):
            places = places[self._bytes[places + offset] == byte]
        ids = self._ends.searchsorted(places, side="right")
        found: NDArray[np.intp] = np.unique(ids[places + len(data) <= self._ends[ids]])
        return found

    def ending_with(self, data: bytes) -> NDArray[np.intp]:
        """Ids of the tokens that end with some bytes."""
        start, stop = self._bounds[data[-1]], self._bounds[data[-1] + 1]
        ids: NDArray[np.intp] = self._by_last[start:stop]
        ids = ids[self._lengths[ids] >= len(data)]
        for back, byte in enumerate(data[-2::-1], 2):
            ids = ids[self._bytes[self._ends[ids] - back] == byte]
        return ids

    def equal_to(self, data: bytes) -> NDArray[np.intp]:
        """Ids of the tokens that are exactly some bytes."""
        ids = self.ending_with(data)
        equal: NDArray[np.intp] = ids[self._lengths[ids] == len(data)]
        return equal


@lru_cache(maxsize=2)
def _pieces_of(tokenizer: Tokenizer) -> Pieces:
    return Pieces(tokenizer)


def _tokens_of(tokenizer: Tokenizer, pieces: Pieces, data: bytes) -> tuple[int, ...] | None:
    """The tokens of a rest of a text; None: it begins within a letter that no tokens divide so."""
    inside = len(data) - len(data.lstrip(_CONTINUATION))
    begun: list[int] = []
    for part in [data[i : i + 1] for i in range(inside)]:
        found = pieces.equal_to(part)
        if not len(found):
            return None
        begun.append(int(found[0]))
    rest = tokenizer.encode(data[inside:].decode(), special=False) if data[inside:] else []
    return tuple([*begun, *rest][:LONGEST_TAIL])
