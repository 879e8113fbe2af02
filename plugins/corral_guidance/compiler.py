"""Grammars to constraints: tried, compiled, cached."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from corral_guidance.cache import Cache
from corral_guidance.matcher import NOTHING, GuidedConstraint, brief
from corral_guidance.trying import Trials
from corral_guidance.vocabulary import guided_tokenizer
from corral_kernel.contracts import Constraint, Tokenizer
from corral_kernel.errors import InvalidFormatError

CACHED_GRAMMARS = 64
"""Kept for each tokenizer, those that do not compile among them."""
CACHED_BYTES = 64 << 20
GRAMMAR_BYTES = 16 << 20
"""One that has grown over this by being used is compiled anew for the next job."""
BYTES_PER_SECOND = 200 << 20
"""Of compiling and of masks: what they make is kept. Measured: 110 MB for what takes a second."""

# A mask is computed within one step of all streams. Measured, on a vocabulary of 49,000: the most
# that JSON Schemas and grammars in use take of these is about half; the worst that was found to
# stay within them takes 20 ms a mask (with llguidance's own bounds 430 ms), and ends its own job.
LIMITS = {
    "step_max_items": 12_000,
    "step_lexer_fuel": 50_000,
    "max_lexer_states": 20_000,
    "initial_lexer_fuel": 500_000,
    "max_grammar_size": 200_000,
    "max_items_in_row": 2_000,
}


@dataclass(frozen=True)
class Grammar:
    """What is to be compiled.

    Attributes:
        key: The content that it is cached by.
        place: Gives the JSON pointer to what an error of the compiler is about, from its words.
        write: Gives it in llguidance's form, and whether it is known to compile quickly; others are
            tried in a process first. May raise InvalidFormatError.
    """

    key: bytes
    place: Callable[[str], str]
    write: Callable[[], tuple[str, bool]]


class Compiled:
    """A grammar that compiles, at its beginning. Its copies share the lexer, which grows by use."""

    def __init__(self, text: str, matcher: LLMatcher, seconds: float) -> None:
        self.text = text
        self.matcher = matcher
        self.size_bytes = len(text)
        self.spoiled = False
        self.charge(seconds)

    def charge(self, seconds: float) -> None:
        """Count what was made in a time."""
        self.size_bytes += int(seconds * BYTES_PER_SECOND)

    @property
    def stale(self) -> bool:
        """Whether the next job is to have a lexer of its own."""
        return self.spoiled or self.size_bytes > GRAMMAR_BYTES


@dataclass(frozen=True)
class Failed:
    """A grammar that does not compile."""

    why: str
    stale: bool = False

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        return len(self.why)


class _Vocabulary:
    """A tokenizer's form for llguidance, and the grammars that were compiled for it."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self.tokenizer = tokenizer
        self.compiled: Cache[bytes, Compiled | Failed] = Cache(CACHED_GRAMMARS, CACHED_BYTES)


class Compiler:
    """Starts constraints; called from several text threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trials = Trials(LIMITS)
        self._vocabularies: weakref.WeakKeyDictionary[Tokenizer, dict[int, _Vocabulary]]
        self._vocabularies = weakref.WeakKeyDictionary()

    def start(self, grammar: Grammar, tokenizer: Tokenizer, vocab_size: int) -> Constraint:
        """Make the constraint of one job.

        Args:
            grammar: What the answer is to be.
            tokenizer: The model's.
            vocab_size: Width of a row of logits.

        Raises:
            InvalidFormatError: If it does not compile, or not within the bounds.
        """
        vocabulary = self._vocabulary(tokenizer, vocab_size)
        found = vocabulary.compiled.get(
            grammar.key, lambda old: self._compile(grammar, vocabulary.tokenizer, old)
        )
        if isinstance(found, Failed):
            raise InvalidFormatError(found.why)
        return GuidedConstraint(found.matcher.deep_copy(), tokenizer.end_ids, found)

    def _vocabulary(self, tokenizer: Tokenizer, vocab_size: int) -> _Vocabulary:
        with self._lock:  # building takes a tenth of a second, once for a model
            sizes = self._vocabularies.setdefault(tokenizer, {})
            if vocab_size not in sizes:
                sizes[vocab_size] = _Vocabulary(guided_tokenizer(tokenizer, vocab_size))
            return sizes[vocab_size]

    def _compile(
        self, grammar: Grammar, tokenizer: LLTokenizer, old: Compiled | Failed | None
    ) -> Compiled | Failed:
        if isinstance(old, Compiled):
            return compiled(old.text, tokenizer)
        try:
            text, trusted = grammar.write()
        except InvalidFormatError as error:
            return Failed(str(error))
        wrong = "" if trusted else self._trials.wrong(text)
        result = Failed(wrong) if wrong else compiled(text, tokenizer)
        if isinstance(result, Failed):
            return Failed(f"format at {grammar.place(result.why)}: {brief(result.why)}")
        return result


def compiled(text: str, tokenizer: LLTokenizer) -> Compiled | Failed:
    """Compile a grammar, and compute its first mask, which its copies then find done."""
    began = time.perf_counter()
    bounds: dict[str, Any] = {**LIMITS, "verbose_errors": False}
    limits = LLParserLimits(**bounds)
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=limits)
    mask = b"" if matcher.is_error() else matcher.compute_bitmask()
    if wrong := str(matcher.get_error()):
        return Failed(wrong)
    if not any(mask) and not matcher.is_accepting():
        return Failed(NOTHING)
    return Compiled(text, matcher, time.perf_counter() - began)
