"""What the kinds of `format` have in common."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from corral_kernel.contracts import Constraint, ConstraintType, Tokenizer
from corral_kernel.contracts.sampling import format_key
from corral_kernel.errors import InvalidFormatError

if TYPE_CHECKING:
    from corral_guidance.compiler import Compiler

MAX_GRAMMAR_BYTES = 64 * 1024


class GuidedType(ConstraintType):
    """A kind of `format` that llguidance enforces.

    Attributes:
        pointer: To the part of a format that errors of the compiler are about.
    """

    pointer = "#"

    def write(self, spec: Any) -> tuple[str, bool]:
        """Give a format in llguidance's form, in a worker.

        Returns:
            A Lark grammar or JSON, as llguidance reads it, and whether that is known to compile
            quickly: others are first compiled in a process of its own.

        Raises:
            InvalidFormatError: As `check` does.
        """
        raise NotImplementedError

    def place(self, spec: Any, why: str) -> str:  # noqa: ARG002 - for kinds that look closer
        """Give the JSON pointer to what an error of the compiler is about, from its words."""
        return self.pointer

    def compile(self, spec: Any, tokenizer: Tokenizer, vocab_size: int) -> Constraint:
        """Make a constraint for one job.

        Raises:
            InvalidFormatError: If it does not compile, or not within the bounds.
        """
        from corral_guidance.compiler import Grammar

        try:
            key = format_key(spec)
        except (ValueError, TypeError) as error:
            raise InvalidFormatError(f"format at #: it is no JSON: {error}") from error
        grammar = Grammar(key, lambda why: self.place(spec, why), lambda: self.write(spec))
        return self._compiler.start(grammar, tokenizer, vocab_size)

    @cached_property
    def _compiler(self) -> Compiler:
        from corral_guidance.compiler import Compiler  # imports llguidance: only ever in a worker

        return Compiler()


class TypedType(GuidedType):
    """A kind of `format` that is an object with `type` and one more key.

    Attributes:
        field: That key.
    """

    field: str

    def content(self, spec: Any) -> Any:
        """Give what the format has at its key.

        Raises:
            InvalidFormatError: If the format has other keys, or lacks that one.
        """
        wanted = f'{{"type": "{self.name}", "{self.field}": …}}'
        if not isinstance(spec, dict) or spec.get("type") != self.name:
            raise InvalidFormatError(f"format at #: wanted {wanted}")
        unknown = sorted(str(key) for key in spec if key not in ("type", self.field))
        if unknown:
            words = ascii(unknown[0])
            raise InvalidFormatError(f"format at #: there is no key {words}; wanted {wanted}")
        if self.field not in spec:
            raise InvalidFormatError(f"format at #: it has no {self.field}; wanted {wanted}")
        return spec[self.field]

    def text(self, spec: Any, max_bytes: int = MAX_GRAMMAR_BYTES) -> str:
        """Give the text that the format has at its key.

        Raises:
            InvalidFormatError: If it has none, or an empty or too long one.
        """
        given = self.content(spec)
        if not isinstance(given, str) or not given:
            raise InvalidFormatError(
                f"format at #/{self.field}: wanted a text, and not the empty one"
            )
        try:
            size_bytes = len(given.encode())
        except UnicodeEncodeError as error:
            raise InvalidFormatError(f"format at #/{self.field}: it is no Unicode text") from error
        if size_bytes > max_bytes:
            raise InvalidFormatError(
                f"format at #/{self.field}: it has {size_bytes:,} bytes: "
                f"at most {max_bytes:,} are taken"
            )
        return given
