"""`{"type": "regex", "pattern": …}`: an answer that a regular expression matches whole."""

from __future__ import annotations

from typing import Any

from corral_guidance.guided import TypedType
from corral_guidance.patterns import LOOKAROUND, MAX_PATTERN_CHARS
from corral_kernel.errors import InvalidFormatError


class RegexType(TypedType):
    """Texts that a regular expression matches from beginning to end."""

    name = "regex"
    field = "pattern"
    pointer = "#/pattern"
    examples = ({"type": "regex", "pattern": "[a-z]+@[a-z]+[.]org"},)

    def check(self, spec: Any) -> None:
        """Look at a pattern's length, and for what no automaton can do.

        Raises:
            InvalidFormatError: What is wrong.
        """
        pattern = self.text(spec)
        if len(pattern) > MAX_PATTERN_CHARS:
            raise InvalidFormatError(
                f"format at {self.pointer}: it has {len(pattern):,} characters: "
                f"at most {MAX_PATTERN_CHARS:,} are taken"
            )
        if LOOKAROUND.search(pattern):
            raise InvalidFormatError(
                f"format at {self.pointer}: patterns that look ahead or behind cannot be enforced"
            )

    def write(self, spec: Any) -> tuple[str, bool]:
        """Give llguidance's form.

        Raises:
            InvalidFormatError: What is wrong.
        """
        from llguidance import LLMatcher  # native: only ever in a worker

        self.check(spec)
        return str(LLMatcher.grammar_from_regex(self.text(spec))), False
