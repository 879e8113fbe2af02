"""Grammars to constraints: tried, compiled, cached."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from corral_guidance.matcher import GuidedConstraint
from corral_guidance.vocabulary import guided_tokenizer
from corral_kernel.contracts import Constraint, Tokenizer
from corral_kernel.errors import InvalidFormatError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # exists for type checkers alone

CACHED_GRAMMARS = 64
"""Kept compiled for each tokenizer; half a megabyte for a large one."""
TRIAL_SECONDS = 5
TRIAL_BYTES = 1 << 30
MAX_LEXER_STATES = 50_000
"""Of one job's grammar, some 2 kB each."""

_CRASHED = "it is too complex (compiling it crashed)"
_SLOW = f"it is too complex (compiling it took over {TRIAL_SECONDS} seconds)"


class _Vocabulary:
    """A tokenizer's form for llguidance, and the grammars that were compiled for it."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self.tokenizer = tokenizer
        self.compiled: OrderedDict[bytes, LLMatcher | str] = OrderedDict()


class Compiler:
    """Starts constraints; called from several text threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vocabularies: weakref.WeakKeyDictionary[Tokenizer, dict[int, _Vocabulary]]
        self._vocabularies = weakref.WeakKeyDictionary()

    def start(  # noqa: PLR0913 - what a compiled grammar depends on
        self,
        key: bytes,
        schema: Mapping[str, Any],
        options: JsonCompileOptions,
        tokenizer: Tokenizer,
        vocab_size: int,
        *,
        trusted: bool = True,
    ) -> Constraint:
        """Make the constraint of one job.

        Args:
            key: The content that the grammar is cached by.
            schema: A JSON Schema.
            options: How llguidance writes it.
            tokenizer: The model's.
            vocab_size: Width of a row of logits.
            trusted: Whether it is known to compile quickly; others are tried in a process first.

        Raises:
            InvalidFormatError: If it does not compile, or not within the bounds.
        """
        vocabulary = self._vocabulary(tokenizer, vocab_size)
        with self._lock:
            found = vocabulary.compiled.get(key)
            if found is not None:
                vocabulary.compiled.move_to_end(key)
        if found is None:
            found = _compile(vocabulary.tokenizer, schema, options, trusted=trusted)
            self._keep(vocabulary, key, found)
        if isinstance(found, str):
            raise InvalidFormatError(f"the format cannot be enforced: {found}")
        return GuidedConstraint(found.deep_copy(), tokenizer.end_ids)

    def _vocabulary(self, tokenizer: Tokenizer, vocab_size: int) -> _Vocabulary:
        with self._lock:  # building takes a tenth of a second, once for a model
            sizes = self._vocabularies.setdefault(tokenizer, {})
            if vocab_size not in sizes:
                sizes[vocab_size] = _Vocabulary(guided_tokenizer(tokenizer, vocab_size))
            return sizes[vocab_size]

    def _keep(self, vocabulary: _Vocabulary, key: bytes, result: LLMatcher | str) -> None:
        with self._lock:
            vocabulary.compiled[key] = result
            if len(vocabulary.compiled) > CACHED_GRAMMARS:
                vocabulary.compiled.popitem(last=False)


def _compile(
    tokenizer: LLTokenizer, schema: Mapping[str, Any], options: JsonCompileOptions, *, trusted: bool
) -> LLMatcher | str:
    """Compile a grammar to a matcher at its beginning, or say what is wrong with it."""
    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options)
    except ValueError as error:
        return str(error)
    if not trusted and (wrong := _try(grammar)):
        return wrong
    limits = LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=limits)
    return str(matcher.get_error()) if matcher.is_error() else matcher


def _try(grammar: str) -> str:
    """Compile a grammar in a short-lived process; the empty text: it does."""
    library = find_spec("llguidance._lib")
    if library is None or library.origin is None:
        raise ImportError("llguidance has no native part: install it again")
    program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("trial.py"))]
    try:
        done = subprocess.run(  # noqa: S603 - our own program, by its path
            [*program, library.origin, str(TRIAL_SECONDS), str(TRIAL_BYTES)],
            input=grammar,
            text=True,
            encoding="utf-8",
            capture_output=True,
            timeout=TRIAL_SECONDS * 3,  # that bounds the clock, where processor time is scarce
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _SLOW
    if done.returncode == -signal.SIGXCPU:
        return _SLOW
    return _CRASHED if done.returncode else done.stdout
