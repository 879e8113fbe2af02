"""What a model wants around a text, or around the two of a pair."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding

Marks = tuple[tuple[int, int], ...]
"""Special tokens: ids, and to which part each belongs."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Special tokens before, between and after texts, learned from an example.

    Attributes:
        before: First of all.
        between: After the first text, before the second.
        after: Last of all.
        types: The part that the tokens of each text belong to.
    """

    before: Marks
    between: Marks
    after: Marks
    types: tuple[int, int]

    @classmethod
    def of(cls, example: Encoding) -> "Frame":
        """Learn it from a text, or from a pair, of at least one token each."""
        marks = list(zip(example.ids, example.type_ids, strict=True))
        owners: list[int | None] = example.sequence_ids
        first, second = ([i for i, o in enumerate(owners) if o == text] for text in (0, 1))
        if not first:
            return cls(tuple(marks), (), (), (0, 0))
        last = second or first
        between = marks[first[-1] + 1 : second[0]] if second else []
        return cls(
            before=tuple(marks[: first[0]]),
            between=tuple(between),
            after=tuple(marks[last[-1] + 1 :]),
            types=(marks[first[0]][1], marks[last[0]][1]),
        )

    @property
    def length(self) -> int:
        """Special tokens in all."""
        return len(self.before) + len(self.between) + len(self.after)

    def around(
        self, first: Sequence[int], second: Sequence[int], limit: int | None
    ) -> tuple[list[int], list[int]]:
        """Put texts into it, the longer one cut first.

        Args:
            first: Token ids.
            second: Token ids; empty for a single text.
            limit: Keep this many tokens at most; None: all.

        Returns:
            Ids, and to which part each belongs.
        """
        if limit is not None:
            room = max(0, limit - self.length)
            fair = max(room // 2, room - len(second))
            first = first[: min(fair, room)]
            second = second[: room - len(first)]
        one, other = self.types
        marks = [
            *self.before,
            *((i, one) for i in first),
            *self.between,
            *((i, other) for i in second),
            *self.after,
        ][:limit]
        return [i for i, _ in marks], [kind for _, kind in marks]
