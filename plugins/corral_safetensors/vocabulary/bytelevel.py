"""Byte-level BPE: GPT-2's tokenizer and those of Llama 3, Qwen, SmolLM and many others."""

from typing import Final

from corral_kernel.errors import UnsupportedError
from corral_safetensors.vocabulary.document import Document
from corral_safetensors.vocabulary.pretokenizers import pre_tokenizer_name
from corral_safetensors.vocabulary.vocabulary import Vocabulary, by_number

_NORMALIZERS: Final = frozenset({"NFC"})  # llama.cpp does without; composed text is the rule


def byte_level(document: Document, most: int) -> Vocabulary:
    """Read it.

    Args:
        document: Of the tokenizer.
        most: How many tokens there may be.

    Raises:
        CorralError: If it is none that llama.cpp has.
    """
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if document.model.text(name, ""):
            raise UnsupportedError(f"{name} of tokenizer.json: llama.cpp knows no such tokenizer")
    kinds = {step.text("type", "") for step in document.steps("normalizer")}
    if not kinds <= _NORMALIZERS:
        raise UnsupportedError(
            f"normalizer {', '.join(sorted(kinds))} of tokenizer.json: "
            "llama.cpp does not normalise texts for this kind of tokenizer"
        )
    pre = pre_tokenizer_name(document)
    tokens, types = by_number(document.vocabulary(), document.added(), most)
    return Vocabulary("gpt2", pre, tokens, types, merges=True)
