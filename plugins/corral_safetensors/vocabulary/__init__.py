"""Tokenizers of many kinds, as llama.cpp wants to be told of them."""

from corral_safetensors.vocabulary.choosing import vocabulary_of
from corral_safetensors.vocabulary.vocabulary import Vocabulary

__all__ = ["Vocabulary", "vocabulary_of"]
