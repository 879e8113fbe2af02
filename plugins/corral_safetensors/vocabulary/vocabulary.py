"""A vocabulary as a GGUF file holds it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError

_MOST_SCORE: Final = 1e30
LOWERCASE: Final = "tokenizer.ggml.normalizer.lowercase"
STRIP_ACCENTS: Final = "tokenizer.ggml.normalizer.strip_accents"


@dataclass(slots=True)
class Vocabulary:
    """Tokens by number.

    Args:
        model: llama.cpp's name of the kind of tokenizer.
        pre: Its name of how texts are cut before that.
        tokens: What each stands for.
        types: Of each.
        scores: Of each, where pieces are joined or chosen by score.
        merges: Whether pieces are joined by a list that tokenizer.json has.
        flags: Further things to say, by the writer's method.
        keys: Further things to say, by key.
        charsmap: SentencePiece's table of characters that are replaced.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[gguf.TokenType]
    scores: list[float] | None = None
    merges: bool = False
    flags: dict[str, bool] = field(default_factory=dict)
    keys: dict[str, bool] = field(default_factory=dict)
    charsmap: bytes = b""

    def widen(self, size: int) -> None:
        """Fill up to the number of the embeddings' rows with tokens that nothing becomes.

        Raises:
            InvalidModelError: If there are more tokens than that.
        """
        if len(self.tokens) > size:
            raise InvalidModelError(
                f"the tokenizer has {len(self.tokens)} tokens; "
                f"by config.json the model knows {size}"
            )
        for number in range(len(self.tokens), size):
            self.tokens.append(f"[PAD{number}]")
            self.types.append(gguf.TokenType.UNUSED)
            if self.scores is not None:
                self.scores.append(-10_000.0)

    def write(self, writer: gguf.GGUFWriter) -> None:
        """Say it in a GGUF file.

        Raises:
            InvalidModelError: If two tokens are the same text, by which llama.cpp ends the process,
                or a score is out of bounds.
        """
        if len(set(self.tokens)) != len(self.tokens):
            raise InvalidModelError(f"the tokenizer has the token {self._doubled()!r} twice")
        if self.scores is not None and not all(abs(score) < _MOST_SCORE for score in self.scores):
            raise InvalidModelError("the tokenizer has a score that is no number of 32 bits")
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        for name, value in self.flags.items():
            getattr(writer, f"add_{name}")(value)
        for name, value in self.keys.items():
            writer.add_bool(name, value)
        if self.charsmap:
            writer.add_precompiled_charsmap(self.charsmap)

    def _doubled(self) -> str:
        ordered = sorted(self.tokens)
        return next(one for one, other in pairwise(ordered) if one == other)


@dataclass(frozen=True, slots=True)
class Added:
    """A token beside the vocabulary proper, found in a text as it is."""

    number: int
    text: str
    special: bool

    @property
    def type(self) -> gguf.TokenType:
        """Control tokens are not for texts of users; some are not marked as what they are."""
        if self.special or _looks_special(self.text):
            return gguf.TokenType.CONTROL
        return gguf.TokenType.USER_DEFINED

    @property
    def spelled(self) -> str:
        """As llama.cpp looks for it in a text, where spaces are still spaces."""
        if self.type is gguf.TokenType.CONTROL:
            return self.text
        return self.text.replace("\u2581", " ")


def _looks_special(text: str) -> bool:
    return (
        text in {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}
        or (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<\uff5c") and text.endswith("\uff5c>"))
        or (text.startswith("<unused") and text.endswith(">"))
    )


def by_number(
    texts: dict[str, int], added: Sequence[Added], most: int
) -> tuple[list[str], list[gguf.TokenType]]:
    """Tokens in the order of their numbers; gaps are filled with tokens that nothing becomes.

    Args:
        texts: The vocabulary proper.
        added: What is beside it; goes before.
        most: One more than the highest number that there may be.

    Raises:
        InvalidModelError: If a number is taken twice or too high.
    """
    numbers = {number: text for text, number in texts.items()}
    if len(numbers) != len(texts):
        raise InvalidModelError("the tokenizer has one number for several tokens")
    size = max([*numbers, *(one.number for one in added)], default=-1) + 1
    if size > most or min(numbers, default=0) < 0:
        raise InvalidModelError(
            f"the tokenizer numbers its tokens up to {size - 1}; "
            f"by config.json the model knows {most}"
        )
    tokens = [numbers.get(number, f"[PAD{number}]") for number in range(size)]
    types = [
        gguf.TokenType.NORMAL if number in numbers else gguf.TokenType.UNUSED
        for number in range(size)
    ]
    for one in added:
        tokens[one.number], types[one.number] = one.spelled, one.type
    return tokens, types
