"""A constraint to some characters; the entry module, which Corral's server imports.

Keep it light: the check of a format lives here; what needs numpy is imported in `compile`, which
only ever runs in a worker.
"""

from collections.abc import Sequence
from typing import Any

from corral_kernel.contracts import Constraint, ConstraintType, Tokenizer
from corral_kernel.errors import InvalidFormatError
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1
MAX_CHARACTERS = 128
MAX_LENGTH = 10_000


class AlphabetType(ConstraintType):
    """What such a format asks for: `length` characters at most, all among some given ones."""

    name = "alphabet"
    examples = (
        {"type": "alphabet", "characters": "01", "length": 8},
        {"type": "alphabet", "characters": "the cat"},
    )

    def check(self, spec: Any) -> None:
        """Look at a format, in the server: by a few comparisons, and with a bound on all sizes.

        Raises:
            InvalidFormatError: What is wrong with it, and where.
        """
        if not isinstance(spec, dict):
            raise InvalidFormatError(f"format at #: wanted an object, not {type(spec).__name__}")
        surplus = sorted(spec.keys() - {"type", "characters", "length"})
        if surplus:
            raise InvalidFormatError(f"format at #: {surplus[0]!r} is nothing that it knows")
        characters = spec.get("characters")
        if not isinstance(characters, str) or not 0 < len(characters) <= MAX_CHARACTERS:
            words = f"wanted a text of 1 to {MAX_CHARACTERS} characters"
            raise InvalidFormatError(f"format at #/characters: {words}")
        if not characters.isascii():
            raise InvalidFormatError("format at #/characters: wanted ASCII characters alone")
        length = spec.get("length", MAX_LENGTH)
        if type(length) is not int or not 0 < length <= MAX_LENGTH:
            words = f"wanted a whole number from 1 to {MAX_LENGTH}"
            raise InvalidFormatError(f"format at #/length: {words}")

    def compile(self, spec: Any, tokenizer: Tokenizer, vocab_size: int) -> Constraint:
        """Make the constraint of one job.

        Raises:
            InvalidFormatError: If `check` would refuse the format.
        """
        from corral_alphabet.constraint import AlphabetConstraint

        self.check(spec)
        characters = spec["characters"].encode()
        length = spec.get("length", MAX_LENGTH)
        return AlphabetConstraint(characters, length, tokenizer, vocab_size)


@hookimpl
def corral_constraints() -> Sequence[ConstraintType]:
    return [AlphabetType()]
