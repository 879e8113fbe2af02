"""Compiles one grammar in a process of its own, which may crash, hang or fill its memory.

Run as `python -I -S trial.py LIBRARY SECONDS BYTES`, with the grammar on standard input: it stands
on nothing but the standard library and llguidance's native part, and so starts in 50 ms. It writes
what is wrong with the grammar; nothing: it compiles.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import resource
import sys
from types import ModuleType
from typing import Any

_END_ID = 256
_STEPS = 50


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
    """Bound processor time and memory of this process, and leave no core file."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # SIGXCPU, then SIGKILL
    resource.setrlimit(resource.RLIMIT_AS, (size_bytes, size_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def native(path: str) -> ModuleType:
    """Load llguidance's native part from its file."""
    loader = importlib.machinery.ExtensionFileLoader("llguidance._lib", path)
    spec = importlib.util.spec_from_file_location("llguidance._lib", path, loader=loader)
    if spec is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def walk(matcher: Any) -> None:
    """Write the beginning of an answer: some grammars are too complex only after a few bytes."""
    for _ in range(_STEPS):
        if matcher.is_error() or matcher.is_stopped():
            return
        mask = int.from_bytes(matcher.compute_bitmask(), "little")
        allowed = [i for i in matcher.compute_ff_tokens() or range(_END_ID) if mask >> i & 1]
        if not allowed or not matcher.try_consume_tokens(allowed[:1]):
            return


def main() -> None:
    """Compile, and take a few steps."""
    library, seconds, size_bytes = sys.argv[1:]
    limit(int(seconds), int(size_bytes))
    lib = native(library)
    tokenizer = lib.LLTokenizer(ByteTokens(), eos_token=[_END_ID])
    matcher = lib.LLMatcher(tokenizer, sys.stdin.read(), log_level=0)
    walk(matcher)
    sys.stdout.write(matcher.get_error())


if __name__ == "__main__":
    main()
