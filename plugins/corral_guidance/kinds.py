"""The two kinds of `format`: `json`, and a JSON Schema."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from corral_guidance.schema import checked, is_small
from corral_kernel.contracts import Constraint, ConstraintType, Tokenizer
from corral_kernel.contracts.sampling import format_key
from corral_kernel.errors import InvalidFormatError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

    from corral_guidance.compiler import Compiler

# One blank, or a line's end with an indent. Without a bound models go on with blanks for ever.
_JSON_SPACE: JsonCompileOptions = {
    "whitespace_flexible": True,
    "whitespace_pattern": r" |\n[ \t]{0,20}",
}
# As most JSON in training data is written. With nothing left to choose, llguidance forces it.
_SCHEMA_SPACE: JsonCompileOptions = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}


class _Guided(ConstraintType):
    @cached_property
    def _compiler(self) -> Compiler:
        from corral_guidance.compiler import Compiler  # imports llguidance: only ever in a worker

        return Compiler()


class JsonType(_Guided):
    """Any JSON object."""

    name = "json"

    def check(self, spec: Any) -> None:
        """Make sure that the spec is the text `json`.

        Raises:
            InvalidFormatError: If it is not.
        """
        if spec != "json":
            raise InvalidFormatError(f'the format is {type(spec).__name__}, wanted "json"')

    def compile(self, spec: Any, tokenizer: Tokenizer, vocab_size: int) -> Constraint:
        """Make a constraint for one job.

        Raises:
            InvalidFormatError: If the spec is another.
        """
        self.check(spec)
        options = _JSON_SPACE
        return self._compiler.start(b"json", {"type": "object"}, options, tokenizer, vocab_size)


class SchemaType(_Guided):
    """JSON that a JSON Schema allows, keys in the schema's order."""

    name = "schema"

    def check(self, spec: Any) -> None:
        """Look at a schema's shape, its size, and for what cannot be enforced.

        Raises:
            InvalidFormatError: What is wrong, with a JSON pointer to where.
        """
        checked(spec)

    def compile(self, spec: Any, tokenizer: Tokenizer, vocab_size: int) -> Constraint:
        """Make a constraint for one job.

        A schema that is large or has costly keywords is first compiled in a process of its own.

        Raises:
            InvalidFormatError: If it does not compile.
        """
        schema = checked(spec)
        return self._compiler.start(
            format_key(spec),
            schema,
            _SCHEMA_SPACE,
            tokenizer,
            vocab_size,
            trusted=is_small(schema),
        )
