"""The vocabulary of a loaded model."""

import ctypes
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import overload

from corral_kernel.checking import sound_text
from corral_kernel.contracts import Tokenizer
from corral_kernel.errors import InvalidRequestError, LoadError
from corral_llamacpp.binding import lib
from corral_llamacpp.native import NativeModel

_PIECE_BYTES = 64
_MARK = "\n"  # no vocabulary puts a line's end and what follows into one token
# The library takes lengths as 32-bit numbers; a text has at most this many bytes.
_TEXT_BYTES = (1 << 31) - 64


class Pieces(Sequence[bytes]):
    """The bytes of each id, looked up when first asked for.

    All 262,144 of a large vocabulary take a quarter of a second, which a load need not wait for.
    """

    def __init__(self, vocab: int) -> None:
        self._vocab = vocab
        self._known: list[bytes | None] = [None] * lib.llama_vocab_n_tokens(vocab)

    def __len__(self) -> int:
        return len(self._known)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self._known)))]
        piece = self._known[index]
        if piece is None:
            index = range(len(self._known))[index]
            piece = self._known[index] = self._look_up(index)
        return piece

    def __iter__(self) -> Iterator[bytes]:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        for index, piece in enumerate(self._known):
            if piece is None:
                piece = self._known[index] = self._look_up(index, buffer)  # noqa: PLW2901 (filled in)
            yield piece

    def _look_up(self, token_id: int, buffer: "ctypes.Array[ctypes.c_char] | None" = None) -> bytes:
        # A buffer of each call's own: several threads look up at once.
        buffer = buffer or ctypes.create_string_buffer(_PIECE_BYTES)
        length = lib.llama_token_to_piece(self._vocab, token_id, buffer, len(buffer), 0, True)  # noqa: FBT003 (native)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = lib.llama_token_to_piece(self._vocab, token_id, buffer, -length, 0, True)  # noqa: FBT003 (native)
        return buffer.raw[:length]


class LlamaTokenizer(Tokenizer):
    """A GGUF's vocabulary. `close` it before the model is freed."""

    def __init__(self, model: NativeModel) -> None:
        vocab = self._vocab = model.vocab
        if lib.llama_vocab_type(vocab) == lib.LLAMA_VOCAB_TYPE_NONE:
            # The library would abort on the first text.
            raise LoadError("the model has no vocabulary, so no text can be fed to it")
        self.pieces = Pieces(vocab)
        ids = range(len(self.pieces))
        attributes = map(lib.llama_vocab_get_attr, repeat(vocab), ids)
        hidden = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN
        self.control_ids = frozenset(
            i for i, attribute in enumerate(attributes) if attribute & hidden
        )
        # The library makes every token that ends an answer a control token.
        ends = {*self.control_ids, lib.llama_vocab_eos(vocab), lib.llama_vocab_eot(vocab)}
        self.end_ids = frozenset(i for i in ends if i in ids and lib.llama_vocab_is_eog(vocab, i))
        bos_id = lib.llama_vocab_bos(vocab)
        self.bos_id = bos_id if bos_id in ids else None
        begun = self.decode(self._encode("a", frame=False, special=False))
        self._mark = self._encode(_MARK, frame=False, special=False) if begun == b" a" else []
        eos_id = lib.llama_vocab_eos(vocab)
        self.eos_id = eos_id if eos_id in ids else None
        self.adds_bos = self.bos_id is not None and bool(lib.llama_vocab_get_add_bos(vocab))

    def encode(self, text: str, *, special: bool) -> list[int]:
        """See `Tokenizer`. Lone surrogates are read as U+FFFD."""
        mark = self._mark
        if not mark or not text:
            return self._encode(text, frame=False, special=special)
        # The space goes before the mark, and both are taken off.
        ids = self._encode(_MARK + text, frame=False, special=special)
        return ids[len(mark) :] if ids[: len(mark)] == mark else ids

    def encode_beginning(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text at the beginning of a prompt, or after a control token.

        That is where some vocabularies put a space before it.
        """
        return self._encode(text, frame=False, special=special)

    def frame(self) -> tuple[list[int], list[int]]:
        """The ids that the model wants before and after a text of which it makes a vector."""
        plain = self._encode("a", frame=False, special=False)
        framed = self._encode("a", frame=True, special=False)
        start = next(
            (i for i in range(len(framed)) if framed[i : i + len(plain)] == plain), len(framed)
        )
        return framed[:start], framed[start + len(plain) :]

    @property
    def pair_marks(self) -> tuple[list[int], list[int], list[int]]:
        """What llama.cpp puts before, between and after two texts that it scores."""
        vocab = self._vocab
        separator = [lib.llama_vocab_sep(vocab)]
        end = separator if self.eos_id is None else [self.eos_id]
        begin = [self.bos_id] if self.adds_bos and self.bos_id is not None else []
        end = end if lib.llama_vocab_get_add_eos(vocab) else []
        between = [*end, *(separator if lib.llama_vocab_get_add_sep(vocab) else [])]
        return begin, between, end

    def _encode(self, text: str, *, frame: bool, special: bool) -> list[int]:
        data = sound_text(text).encode()
        if len(data) > _TEXT_BYTES:
            raise InvalidRequestError(f"a text of {len(data)} bytes; {_TEXT_BYTES} are the most")
        room = len(data) // 2 + 16
        while True:
            ids = (ctypes.c_int32 * room)()
            count = lib.llama_tokenize(self._vocab, data, len(data), ids, room, frame, special)
            if count >= 0:
                return ids[:count]
            room = -count
