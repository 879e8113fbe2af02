"""`{"type": "choice", "choices": […]}`: an answer that is one of some texts."""

from __future__ import annotations

import json
from typing import Any

from corral_guidance.guided import MAX_GRAMMAR_BYTES, TypedType
from corral_kernel.errors import InvalidFormatError

MAX_CHOICES = 2_000
SMALL_BYTES = 8 * 1024


class ChoiceType(TypedType):
    """One of some texts, word for word.

    The same text twice is the same choice. Where one is the beginning of another, the model decides
    after it whether to end or to go on. With the empty text among them it may say nothing.
    """

    name = "choice"
    field = "choices"
    pointer = "#/choices"
    examples = ({"type": "choice", "choices": ["yes", "no", "not yet"]},)

    def check(self, spec: Any) -> None:
        """Look at the choices' number, kind and size.

        Raises:
            InvalidFormatError: What is wrong.
        """
        self._choices(spec)

    def write(self, spec: Any) -> tuple[str, bool]:
        """Give llguidance's form: one terminal, so that no choice hides another.

        Raises:
            InvalidFormatError: What is wrong.
        """
        from llguidance import LLMatcher  # native: only ever in a worker

        choices = self._choices(spec)
        texts = (json.dumps(choice, ensure_ascii=False) for choice in choices)
        literals = " | ".join(texts).replace("\x7f", "\\u007f")
        small = sum(map(len, choices)) <= SMALL_BYTES
        return str(LLMatcher.grammar_from_lark(f"start: CHOICE\nCHOICE: {literals}\n")), small

    def _choices(self, spec: Any) -> list[str]:
        given = self.content(spec)
        if not isinstance(given, list) or not given:
            raise InvalidFormatError(f"format at {self.pointer}: wanted an array of texts")
        if len(given) > MAX_CHOICES:
            raise InvalidFormatError(
                f"format at {self.pointer}: {len(given):,} choices: "
                f"at most {MAX_CHOICES:,} are taken"
            )
        size_bytes = 0
        for index, choice in enumerate(given):
            try:
                size_bytes += len(choice.encode())
            except (AttributeError, UnicodeEncodeError) as error:
                raise InvalidFormatError(
                    f"format at {self.pointer}/{index}: wanted a text"
                ) from error
        if size_bytes > MAX_GRAMMAR_BYTES:
            raise InvalidFormatError(
                f"format at {self.pointer}: they have {size_bytes:,} bytes: "
                f"at most {MAX_GRAMMAR_BYTES:,} are taken"
            )
        return list(dict.fromkeys(given))
