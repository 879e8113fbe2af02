"""The vocabularies of legacy GGML files.

Texts are cut into tokens here, as the library does it but without it: its own code matches long
texts by recursion and runs out of stack, ends the process for a byte that is no token, and must
not run beside a step of the same model. Here any number of threads may.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

import numpy as np

from corral_ctransformers.merging import merge
from corral_ctransformers.words import byte_words, unicode_words
from corral_kernel.checking import sound_text
from corral_kernel.contracts import Tokenizer

_WORDS_KEPT = 1 << 15
_WORD_BYTES = 32  # longer ones are not kept
_SPACE = "\u2581".encode()  # which sentencepiece writes for a space
_END = b"<|endoftext|>"


class GgmlTokenizer(Tokenizer):
    """What all of them share.

    Args:
        pieces: The bytes of each token.
        control: Ids of control tokens, by their literal text.
        ends: Ids that end an answer.
    """

    def __init__(
        self, pieces: Sequence[bytes], control: dict[bytes, int], ends: Collection[int]
    ) -> None:
        self.pieces = tuple(pieces)
        self.control_ids = frozenset(control.values())
        self.end_ids = frozenset(ends)
        self.eos_id = min(self.end_ids, default=None)
        self._ids = self._writing(self.pieces)
        self._control = control
        longest_first = sorted(control, key=len, reverse=True)
        self._marks = re.compile(b"(" + b"|".join(map(re.escape, longest_first)) + b")")
        self._cut = lru_cache(_WORDS_KEPT)(self._cut_word)

    def encode(self, text: str, *, special: bool) -> list[int]:
        """See `Tokenizer`. Lone surrogates are read as U+FFFD."""
        data = sound_text(text).encode()
        if not (special and self._control):
            return self._encode(data)
        ids: list[int] = []
        for place, run in enumerate(self._marks.split(data)):
            ids += [self._control[run]] if place % 2 else self._encode(run)
        return ids

    def encode_beginning(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text at the beginning of a prompt."""
        return self.encode(text, special=special)

    def _writing(self, pieces: Sequence[bytes]) -> dict[bytes, int]:
        """Tokens that plain texts may become; as in the library, the last of equal ones."""
        hidden = self.control_ids
        return {piece: i for i, piece in enumerate(pieces) if piece and i not in hidden}

    def _encode(self, data: bytes) -> list[int]:
        ids: list[int] = []
        for word in self._words(data):
            ids += self._cut(word) if len(word) <= _WORD_BYTES else self._cut_word(word)
        return ids

    def _words(self, data: bytes) -> Iterator[bytes]:
        yield from byte_words(data)

    def _cut_word(self, word: bytes) -> tuple[int, ...]:
        raise NotImplementedError

    def _single_bytes(self, data: bytes) -> Iterator[int]:
        """The tokens of single bytes; a byte that is none is left out, as in the library."""
        found = (self._ids.get(data[i : i + 1]) for i in range(len(data)))
        return (i for i in found if i is not None)


class GreedyTokenizer(GgmlTokenizer):
    """The longest token that fits, again and again: how the library reads GPT-2's vocabulary."""

    def __init__(self, pieces: Sequence[bytes], marks: Collection[bytes]) -> None:
        ids = {piece: i for i, piece in enumerate(pieces)}
        control = {mark: ids[mark] for mark in (_END, *marks) if mark in ids}
        ends = [ids[end] for end in (_END, b"<|end|>", b"### End") if end in control]
        super().__init__(pieces, control, ends)
        self.bos_id = ids.get(_END)
        self._lengths = sorted({len(piece) for piece in self._ids}, reverse=True)

    def _cut_word(self, word: bytes) -> tuple[int, ...]:
        ids: list[int] = []
        place, end = 0, len(word)
        while place < end:
            for length in self._lengths:
                if length > end - place:
                    continue
                found = self._ids.get(word[place : place + length])
                if found is not None:
                    ids.append(found)
                    place += length
                    break
            else:
                place += 1
        return tuple(ids)


class UnigramTokenizer(GgmlTokenizer):
    """The likeliest way to write a whole text: replit's."""

    def __init__(self, pieces: Sequence[bytes], scores: Sequence[float]) -> None:
        shown = [piece.replace(_SPACE, b" ") for piece in pieces]
        control = {_END: list(pieces).index(_END)} if _END in pieces else {}
        super().__init__(shown, control, list(control.values()))
        self._written = self._writing(pieces)
        self._costs = [np.float32(-score) for score in scores]
        self._longest = max(map(len, self._written), default=1)

    def _words(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data

    def _cut_word(self, word: bytes) -> tuple[int, ...]:
        text = word.replace(b" ", _SPACE)
        end = len(text)
        none = np.float32(np.inf)
        best = [np.float32(1), *([none] * end)]
        starts = [0] * (end + 1)
        with np.errstate(all="ignore"):  # scores may be any numbers
            for start in range(end):
                if best[start] == none:
                    continue
                for stop in range(start + 1, min(end, start + self._longest) + 1):
                    found = self._written.get(text[start:stop])
                    if found is None:
                        continue
                    cost = best[start] + self._costs[found]
                    if cost < best[stop]:
                        best[stop], starts[stop] = cost, start
        return self._way(text, starts) if best[end] != none else self._around(word)

    def _way(self, text: bytes, starts: list[int]) -> tuple[int, ...]:
        ids: list[int] = []
        stop = len(text)
        while stop:
            ids.append(self._written[text[starts[stop] : stop]])
            stop = starts[stop]
        return tuple(reversed(ids))

    def _around(self, word: bytes) -> tuple[int, ...]:
        """A text with a character that no token writes: where the library gives up all of it."""
        ids: list[int] = []
        for character in word.decode(errors="replace"):
            data = character.encode().replace(b" ", _SPACE)
            ids.append(self._written.get(data, 0))
        return tuple(ids)


class LlamaTokenizer(GgmlTokenizer):
    """Neighbours merged by the score of what they become: sentencepiece as llama.cpp had it."""

    bos_id = 1
    adds_bos = True
    _literal = (b"<unk>", b"<s>", b"</s>")

    def __init__(self, pieces: Sequence[bytes], scores: Sequence[float]) -> None:
        named = [*self._literal, *pieces[len(self._literal) :]]
        super().__init__(named, {b"<s>": 1, b"</s>": 2}, [2])
        self.control_ids = frozenset(range(len(self._literal)))
        self._ids = self._writing(pieces)
        self._scores = scores

    def encode_beginning(self, text: str, *, special: bool) -> list[int]:
        """See `GgmlTokenizer`: the model learnt texts with a space before them."""
        begins = special and self._marks.match(sound_text(text).encode())
        return self.encode(text if begins or not text else f" {text}", special=special)

    def _words(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data

    def _cut_word(self, word: bytes) -> tuple[int, ...]:
        characters = [c.encode() for c in word.decode(errors="replace")]
        ids: list[int] = []
        for text in merge(characters, self._rank):
            found = self._ids.get(text)
            ids += self._single_bytes(text) if found is None else [found]
        return tuple(ids)

    def _rank(self, left: bytes, right: bytes) -> float | None:
        found = self._ids.get(left + right)
        return None if found is None else -self._scores[found]


class FalconTokenizer(GgmlTokenizer):
    """GPT-2's own way: neighbours merged in the order of a list."""

    _controls = 12  # the first of all tokens, and the last of these ends an answer
    _own_tokens = 65024  # what follows was added by whoever tuned the model

    def __init__(self, pieces: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]]) -> None:
        marks = (*range(self._controls), *range(self._own_tokens, len(pieces)))
        control = {pieces[i]: i for i in marks if pieces[i]}
        super().__init__(pieces, control, [self._controls - 1])
        self._order: dict[tuple[bytes, bytes], int] = {}
        for place, (left, right) in enumerate(merges):
            self._order.setdefault((_from_letters(left), _from_letters(right)), place)

    def _words(self, data: bytes) -> Iterator[bytes]:
        return map(str.encode, unicode_words(data.decode(errors="replace")))

    def _cut_word(self, word: bytes) -> tuple[int, ...]:
        ids: list[int] = []
        single = [word[i : i + 1] for i in range(len(word))]
        for text in merge(single, lambda left, right: self._order.get((left, right))):
            found = self._ids.get(text)
            ids += self._single_bytes(text) if found is None else [found]
        return tuple(ids)


def _letters() -> dict[str, int]:
    """GPT-2's letters for bytes: merges are written with them."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [i for i in range(0x100) if i not in plain]
    return {chr(i): i for i in plain} | {chr(0x100 + n): i for n, i in enumerate(others)}


_BYTE_OF = _letters()


def _from_letters(written: bytes) -> bytes:
    """The bytes of one side of a merge; what is no letter of GPT-2's stands for itself."""
    text = written.decode(errors="replace")
    return b"".join(bytes([_BYTE_OF[c]]) if c in _BYTE_OF else c.encode() for c in text)
