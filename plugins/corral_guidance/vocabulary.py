"""A model's tokens as llguidance wants them."""

from __future__ import annotations

import weakref

from llguidance import LLTokenizer, TokenizerWrapper

from corral_kernel.contracts import Tokenizer


class _Tokens:
    """The attributes that llguidance reads; holds the tokenizer weakly, for the cache's sake."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        pieces = list(tokenizer.pieces[:vocab_size])
        control = {i for i in tokenizer.control_ids | tokenizer.end_ids if i < vocab_size}
        # Rows of logits may be wider than the vocabulary; an empty token is never allowed.
        self.tokens = pieces + [b""] * (vocab_size - len(pieces))
        self.special_token_ids = sorted(control)
        self.eos_token_id = min(tokenizer.end_ids, default=min(control, default=0))
        self.bos_token_id = tokenizer.bos_id
        self._tokenizer = weakref.ref(tokenizer)

    def __call__(self, text: str) -> list[int]:
        tokenizer = self._tokenizer()
        if tokenizer is None or not isinstance(text, str):
            raise TypeError("only text is tokenized, while the model is loaded")
        return tokenizer.encode(text, special=False)


def guided_tokenizer(tokenizer: Tokenizer, vocab_size: int) -> LLTokenizer:
    """Build llguidance's tokenizer: 120 ms for a vocabulary of 49,000.

    Args:
        tokenizer: The model's.
        vocab_size: Width of a row of logits, and so of a mask.
    """
    tokens = _Tokens(tokenizer, vocab_size)
    ends = sorted(tokenizer.end_ids) or [tokens.eos_token_id]
    return LLTokenizer(TokenizerWrapper(tokens), eos_token=ends)
