"""SentencePiece: the tokenizers of Llama 2, Mistral and Gemma, and of XLM-RoBERTa."""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_safetensors.source import ModelFiles
from corral_safetensors.vocabulary.document import Document
from corral_safetensors.vocabulary.pieces import BPE, UNIGRAM, Pieces, read_pieces
from corral_safetensors.vocabulary.vocabulary import Added, Vocabulary, by_number

MODEL: Final = "tokenizer.model"
_SPACE: Final = "\u2581"
_BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")
_MOST_LACKING: Final = 0.01  # of tokens; some vocabularies were extended by hand
_LONGEST_SPLIT: Final = 256
_ADDED_SCORE: Final = -1000.0
_NORMALIZERS: Final = frozenset({"Prepend", "Replace", "Precompiled", "Strip", "Nmt"})


def from_model(source: ModelFiles, document: Document) -> Vocabulary:
    """Read tokenizer.model, and what other files add to it.

    Raises:
        CorralError: If it is no SentencePiece model, or none that llama.cpp has.
    """
    pieces = read_pieces(source.data(MODEL))
    for one in document.added():
        _set(pieces, one)
    add_prefix = document.config.flag("add_prefix_space", default=pieces.add_prefix)
    if pieces.kind == BPE:
        return _joined(pieces.tokens, pieces.scores, pieces.types, add_prefix=add_prefix)
    if pieces.kind == UNIGRAM:
        return _unigram(pieces, add_prefix=add_prefix)
    raise UnsupportedError(
        "tokenizer.model is of words or characters; llama.cpp has BPE and Unigram"
    )


def joined_pieces(document: Document, most: int) -> Vocabulary:
    """Read the form that tokenizer.json has for SentencePiece's BPE.

    It lists the pairs that may be joined, in the order of the scores of what they become; llama.cpp
    wants the scores.

    Raises:
        CorralError: If it is of another form, or none that llama.cpp has.
    """
    added = document.added()
    tokens, types = by_number(document.vocabulary(), added, most)
    unknown = document.model.text("unk_token", "")
    outside = {one.number for one in added}
    for number, token in enumerate(tokens):
        if token == unknown:
            types[number] = gguf.TokenType.UNKNOWN
        elif number not in outside and _BYTE.fullmatch(token):
            types[number] = gguf.TokenType.BYTE
    inside = {token for number, token in enumerate(tokens) if number not in outside}
    ranks = _ranks(document, inside)
    last = float(len(ranks) + 1)
    scores = [
        _ADDED_SCORE if number in outside else -float(ranks.get(token, last))
        for number, token in enumerate(tokens)
    ]
    return _joined(tokens, scores, types, add_prefix=_adds_prefix(document))


def unigram(document: Document, most: int) -> Vocabulary:
    """Read the form that tokenizer.json has for SentencePiece's Unigram.

    Raises:
        CorralError: If it is of another form.
    """
    scored = document.scored()
    pieces = Pieces(
        tokens=[token for token, _ in scored],
        scores=[score for _, score in scored],
        types=[gguf.TokenType.NORMAL] * len(scored),
        remove_spaces=any(
            step.text("type", "") == "WhitespaceSplit" for step in document.steps("pre_tokenizer")
        ),
    )
    unknown = document.unknown_number()
    if len(scored) > most or unknown >= len(scored):
        raise InvalidModelError(
            f"the tokenizer has {len(scored)} tokens and the unknown one is {unknown}; "
            f"by config.json the model knows {most}"
        )
    for one in document.added():
        score = pieces.scores[one.number] if one.number < len(scored) else 0.0
        _set(pieces, one, score)
    pieces.types[unknown] = gguf.TokenType.UNKNOWN
    for step in document.steps("normalizer"):
        kind = step.text("type", "")
        if kind not in _NORMALIZERS:
            raise UnsupportedError(
                f"normalizer {kind} of tokenizer.json is none of SentencePiece's"
            )
        if kind == "Precompiled":
            pieces.charsmap = _decoded(step.text("precompiled_charsmap"))
        pieces.remove_spaces |= kind == "Replace"
    return _unigram(pieces, add_prefix=_adds_prefix(document))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidModelError(f"precompiled_charsmap of tokenizer.json: {error}") from None


def _ranks(document: Document, inside: set[str]) -> dict[str, int]:
    """The place of each token that pairs become, the one that is joined first at 1.

    SentencePiece joins any two pieces that make a third; so all such pairs are to be listed. A
    tokenizer that was trained for the pairs themselves lists one for each token.

    Args:
        document: Of the tokenizer.
        inside: Tokens of the vocabulary proper.

    Raises:
        UnsupportedError: If too many pairs are missing.
    """
    merges = document.merges()
    ranks: dict[str, int] = {}
    for left, right in merges:
        ranks.setdefault(left + right, len(ranks) + 1)
    pairs = set(merges)
    lacking = sum(
        any(pair not in pairs and inside.issuperset(pair) for pair in _splits(token))
        for token in ranks
        if token in inside
    )
    if lacking > len(ranks) * _MOST_LACKING:
        raise UnsupportedError(
            f"merges of tokenizer.json: {lacking} tokens could be joined in more ways than are "
            "listed, so that this is no tokenizer of SentencePiece's kind; llama.cpp has none that "
            "falls back to bytes otherwise"
        )
    return ranks


def _splits(token: str) -> Iterator[tuple[str, str]]:
    if len(token) <= _LONGEST_SPLIT:
        for place in range(1, len(token)):
            yield token[:place], token[place:]


def _adds_prefix(document: Document) -> bool:
    for step in document.steps("normalizer"):
        if step.text("type", "") == "Prepend":
            return True
    for step in document.steps("pre_tokenizer"):
        if step.text("type", "") == "Metaspace":
            old = step.flag("add_prefix_space", default=True)
            return step.text("prepend_scheme", "always" if old else "never") != "never"
    return False


def _set(pieces: Pieces, added: Added, score: float = _ADDED_SCORE) -> None:
    """Put an added token among the pieces; gaps before it become tokens that nothing becomes."""
    while len(pieces.tokens) <= added.number:
        if added.number > len(pieces.tokens) + 100_000:
            raise InvalidModelError(f"added token {added.text!r} has the number {added.number}")
        pieces.tokens.append(f"[PAD{len(pieces.tokens)}]")
        pieces.scores.append(-10_000.0)
        pieces.types.append(gguf.TokenType.UNUSED)
    if pieces.types[added.number] is not gguf.TokenType.UNKNOWN:
        pieces.types[added.number] = added.type
    pieces.tokens[added.number] = added.spelled
    pieces.scores[added.number] = score


def _joined(
    tokens: list[str], scores: list[float], types: list[gguf.TokenType], *, add_prefix: bool
) -> Vocabulary:
    return Vocabulary(
        "llama", "default", tokens, types, scores, flags={"add_space_prefix": add_prefix}
    )


def _unigram(pieces: Pieces, *, add_prefix: bool) -> Vocabulary:
    return Vocabulary(
        "t5",
        "default",
        pieces.tokens,
        pieces.types,
        pieces.scores,
        flags={
            "add_space_prefix": add_prefix,
            "remove_extra_whitespaces": pieces.remove_spaces,
        },
        charsmap=pieces.charsmap,
    )
