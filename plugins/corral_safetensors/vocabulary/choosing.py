"""Which kind of tokenizer a model has."""

from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_safetensors.source import ModelFiles
from corral_safetensors.vocabulary.bytelevel import byte_level
from corral_safetensors.vocabulary.document import TOKENIZER, Document
from corral_safetensors.vocabulary.sentencepiece import MODEL, from_model, joined_pieces, unigram
from corral_safetensors.vocabulary.vocabulary import Vocabulary
from corral_safetensors.vocabulary.wordpiece import WORDS, word_piece


def vocabulary_of(source: ModelFiles, size: int) -> Vocabulary:
    """A model's vocabulary, as many tokens as its embeddings have rows.

    Args:
        source: The model.
        size: How many that are.

    Raises:
        CorralError: If there is no tokenizer, or none that llama.cpp has.
    """
    found = _read(source, size)
    found.widen(size)
    return found


def _read(source: ModelFiles, size: int) -> Vocabulary:
    document = Document(source)
    if MODEL in source:
        return from_model(source, document)
    if TOKENIZER in source:
        return _described(source, document, size)
    if WORDS in source:
        return word_piece(source, document, size)
    raise InvalidModelError(
        f"the model has no tokenizer: one of {TOKENIZER}, {MODEL} and {WORDS} is needed"
    )


def _described(source: ModelFiles, document: Document, size: int) -> Vocabulary:
    kind = document.model.text("type", "BPE")
    if kind == "WordPiece":
        return word_piece(source, document, size)
    if kind == "Unigram":
        return unigram(document, size)
    if kind != "BPE":
        raise UnsupportedError(
            f"tokenizer.json has a model of type {kind}; known are BPE, Unigram and WordPiece"
        )
    if document.model.flag("byte_fallback", default=False):
        return joined_pieces(document, size)
    return byte_level(document, size)
