"""Compiles one grammar in a process of its own, which may crash, hang or fill its memory.

Run as `python -I -S trial.py LIBRARY SECONDS BYTES LIMITS`, with the grammar on standard input: it
stands on nothing but the standard library and llguidance's native part, and so starts in 50 ms. It
writes what is wrong with the grammar; nothing: it compiles.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import signal
import sys
from types import ModuleType
from typing import Any

_END_ID = 256
_STEPS = 60
_WALKS = 3
_ALARM_S = 20
"""By the clock: for the case that nobody is left to end this process."""


class ByteTokens:
    """A vocabulary of bytes, with the attributes that llguidance reads."""

    tokens = (*tuple(bytes([i]) for i in range(256)), b"</s>")
    special_token_ids = (_END_ID,)
    eos_token_id = _END_ID
    bos_token_id = None
    is_tokenizer_wrapper = True

    def __call__(self, text: str | bytes) -> list[int]:
        """Give the bytes of a text."""
        return list(text if isinstance(text, bytes) else text.encode())


def limit(seconds: int, size_bytes: int) -> None:
    """Bound time and memory, leave no core file, and let those who serve go first."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # SIGXCPU, then SIGKILL
    resource.setrlimit(resource.RLIMIT_AS, (size_bytes, size_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(_ALARM_S)
    os.nice(10)


def native(path: str) -> ModuleType:
    """Load llguidance's native part from its file."""
    loader = importlib.machinery.ExtensionFileLoader("llguidance._lib", path)
    spec = importlib.util.spec_from_file_location("llguidance._lib", path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def walk(matcher: Any, draw: random.Random) -> None:
    """Write the beginning of an answer: some grammars are too complex only after a few bytes."""
    for _ in range(_STEPS):
        if matcher.is_error() or matcher.is_stopped():
            return
        mask = int.from_bytes(matcher.compute_bitmask(), "little")
        forced = matcher.compute_ff_tokens()[:1]
        allowed = forced or [i for i in range(_END_ID) if mask >> i & 1]
        if not allowed or not matcher.try_consume_tokens([draw.choice(allowed)]):
            return


def main() -> None:
    """Compile, and take a few walks."""
    library, seconds, size_bytes, limits = sys.argv[1:]
    limit(int(seconds), int(size_bytes))
    lib = native(library)
    tokenizer = lib.LLTokenizer(ByteTokens(), eos_token=[_END_ID])
    bounds = lib.LLParserLimits(**json.loads(limits), verbose_errors=False)
    grammar = sys.stdin.buffer.read().decode()
    matcher = lib.LLMatcher(tokenizer, grammar, log_level=0, limits=bounds)
    wrong = matcher.get_error()
    for seed in range(_WALKS):
        if not wrong:
            walker = matcher.deep_copy()
            walk(walker, random.Random(seed))  # noqa: S311 - a walk is no secret
            wrong = walker.get_error()
    sys.stdout.buffer.write(wrong.encode())


if __name__ == "__main__":
    main()
