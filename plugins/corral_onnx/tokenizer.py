"""Texts to token ids by a `tokenizer.json`, with Hugging Face's `tokenizers`.

The tokenizer of ONNX Runtime GenAI is not used: it reads control tokens in any text, whoever
wrote it, and ends a text at its first NUL.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import tokenizers

from corral_kernel.checking import joined_texts, sound_text
from corral_kernel.contracts import Part, Prompt, Tokenizer, TokenSegment
from corral_kernel.errors import EngineError, InvalidModelError
from corral_kernel.foldernames import TOKENIZER
from corral_onnx.config import section
from corral_onnx.folder import Folder
from corral_onnx.pieces import Decoder

_MARK = "\n"  # no vocabulary puts a line's end and what follows into one token
_MOST_IDS = 1 << 24
_ENDS = frozenset(
    {b"<|endoftext|>", b"<|end_of_text|>", b"<|im_end|>", b"<|eot_id|>", b"<|eom_id|>",
     b"<end_of_turn>"}
)  # fmt: skip
"""Control tokens that end an answer by their very names, as llama.cpp takes them too."""


class OnnxTokenizer(Tokenizer):
    """See `Tokenizer`.

    Args:
        folder: Of the model; with a `tokenizer.json`.
        width: Of a row of logits, or of what the model takes; larger ids are no tokens. None: as
            many as the vocabulary has.
        bos_id: What begins a sequence, if the tokenizer's own files do not tell.
        end_ids: What ends an answer, beside what the tokenizer's own files tell.

    Raises:
        InvalidModelError: If a file is missing or damaged.
    """

    def __init__(
        self,
        folder: Folder,
        width: int | None = None,
        bos_id: int | None = None,
        end_ids: Iterable[int] = (),
    ) -> None:
        document = section(folder.documents, TOKENIZER)
        if not document:
            raise InvalidModelError(f"the folder has no {TOKENIZER}, so no text can be fed to it")
        config = section(folder.documents, "tokenizer_config.json")
        # Two of them: which texts are control tokens is an attribute, and threads share them.
        self.raw = _open(document)
        self._plain = _open(document)
        self._plain.encode_special_tokens = True
        self.pieces, self.control_ids = _pieces(self.raw, document, width)
        ids = range(len(self.pieces))
        own_bos, own_eos = (self._named(config, name) for name in ("bos_token", "eos_token"))
        given = section(folder.documents, "generation_config.json").get("eos_token_id")
        told = given if isinstance(given, list) else [given]
        named = (i for i in sorted(self.control_ids) if self.pieces[i] in _ENDS)
        ends = [i for i in (*end_ids, *told, own_eos, *named) if isinstance(i, int) and i in ids]
        self.end_ids = frozenset(ends)
        self.control_ids |= self.end_ids
        bos_id = bos_id if own_bos is None else own_bos
        self.bos_id = bos_id if bos_id is not None and bos_id in ids else None
        self.eos_id = own_eos if own_eos is not None and own_eos in ids else next(iter(ends), None)
        self.adds_bos = self.bos_id is not None and self._begins_with_bos(config)
        # The id of what is unknown is any text's, and means nothing else.
        self._smuggled = self.control_ids - {self._unknown(section(document, "model"))}
        self._mark: list[int] = []
        begun = self.encode_beginning("a", special=False)
        if max(begun, default=0) in ids and self.decode(begun) == b" a":
            self._mark = self.encode_beginning(_MARK, special=False)

    def _named(self, config: Mapping[str, Any], name: str) -> int | None:
        token = config.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        found: int | None = self.raw.token_to_id(text) if isinstance(text, str) else None
        return found

    def _unknown(self, model: Mapping[str, Any]) -> int | None:
        if isinstance(model.get("unk_token"), str):
            return self._named(model, "unk_token")
        found = model.get("unk_id")
        return found if isinstance(found, int) else None

    def _begins_with_bos(self, config: Mapping[str, Any]) -> bool:
        stated = config.get("add_bos_token")
        if isinstance(stated, bool):
            return stated
        return self.ids_of(self.raw, "a", framed=True)[:1] == [self.bos_id]

    def encode(self, text: str, *, special: bool) -> list[int]:
        """See `Tokenizer`. Lone surrogates are read as U+FFFD."""
        mark = self._mark
        if not mark or not text:
            return self.encode_beginning(text, special=special)
        # The space that some vocabularies begin with goes before the mark; both are taken off.
        ids = self.encode_beginning(_MARK + text, special=special)
        return ids[len(mark) :] if ids[: len(mark)] == mark else ids

    def encode_beginning(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text at the beginning of a prompt, or after a control token.

        That is where some vocabularies put a space before it.
        """
        if special:
            return self.ids_of(self.raw, text)
        ids = self.ids_of(self._plain, text)
        return ids if self._smuggled.isdisjoint(ids) else self._cut_up(text)

    def _cut_up(self, text: str) -> list[int]:
        """Token ids of a text that holds the texts of control tokens, none of which it becomes.

        Some kinds of vocabulary have them as words among others. A cut in each of them helps.
        """
        literals = (self.pieces[i].decode(errors="replace") for i in self._smuggled)
        pattern = re.compile("|".join(re.escape(literal) for literal in literals if literal))
        cuts = [0, *(found.start() + 1 for found in pattern.finditer(text)), len(text)]
        ids: list[int] = []
        for start, stop in pairwise(cuts):
            mark = self._mark if start else []
            part = self.ids_of(self._plain, _MARK * bool(mark) + text[start:stop])
            ids += part[len(mark) :] if part[: len(mark)] == mark else part
        return [i for i in ids if i not in self._smuggled]

    def ids_of(self, raw: tokenizers.Tokenizer, text: str, *, framed: bool = False) -> list[int]:
        """Token ids by one of the library's tokenizers.

        Args:
            raw: Which.
            text: Any text.
            framed: With what the model wants before and after it.

        Raises:
            EngineError: If the library failed.
        """
        try:
            return list(raw.encode(sound_text(text), add_special_tokens=framed).ids)
        except BaseException as error:
            if is_panic(error):
                raise EngineError(f"tokenizers failed on this text: {error}") from None
            raise

    def prepare(self, parts: Sequence[Part]) -> Prompt:
        """A prompt's ids; neighbouring parts of one kind are tokenized as one text.

        Raises:
            UnsupportedError: For media.
        """
        ids: list[int] = []
        for text, special in joined_texts(parts):
            begins = not ids or ids[-1] in self.control_ids
            encode = self.encode_beginning if begins else self.encode
            ids += encode(text, special=special)
        if self.bos_id is not None and ids[:1] != [self.bos_id] and (self.adds_bos or not ids):
            ids.insert(0, self.bos_id)
        return Prompt((TokenSegment(ids),))


def _open(document: Mapping[str, Any]) -> tokenizers.Tokenizer:
    try:
        raw = tokenizers.Tokenizer.from_str(json.dumps(document))
        raw.no_padding()
        raw.no_truncation()
        raw.token_to_id("a")
        raw.encode("a", add_special_tokens=True)
    except BaseException as error:
        if is_panic(error) or type(error) is Exception:  # the library raises no other
            raise InvalidModelError(f"{TOKENIZER} is none: {error}") from None
        raise
    return raw


def _pieces(
    raw: tokenizers.Tokenizer, document: Mapping[str, Any], width: int | None
) -> tuple[list[bytes], frozenset[int]]:
    """The bytes of each id, and the ids that are never shown: control tokens, and holes."""
    decoder = Decoder(document)
    vocabulary: dict[str, int] = raw.get_vocab(with_added_tokens=True)
    added = raw.get_added_tokens_decoder()
    count = max((*vocabulary.values(), *added), default=-1) + 1
    count = min(count, _MOST_IDS if width is None else width)
    if not vocabulary:
        raise InvalidModelError(f"{TOKENIZER} has no vocabulary")
    pieces: list[bytes | None] = [None] * count
    for token, token_id in vocabulary.items():
        if token_id < count and token_id not in added:
            pieces[token_id] = decoder.decode(token)
    for token_id, literal in added.items():
        if token_id < count:
            pieces[token_id] = literal.content.encode()
    control = {i for i, token in added.items() if token.special and i < count}
    holes = {i for i, piece in enumerate(pieces) if piece is None}
    return [piece or b"" for piece in pieces], frozenset(control | holes)


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust ran into a bug of its own; it derives no `Exception`."""
    return type(error).__name__ == "PanicException"
