"""What an answer consists of, for the worker's loop: free text, literal text, constraints."""

from msgspec import Struct


class Step(Struct, frozen=True, kw_only=True, tag_field="step"):
    """One part of an answer."""


class Trigger(Struct, frozen=True, kw_only=True):
    """A mark in free text, and what follows it; then the free text goes on.

    Args:
        mark: The bytes of its text, wherever the tokens' borders are; control tokens count as
            their literal text. It is part of the answer.
        steps: In order.
        at_start: It counts only where nothing but white space stands before it in its free text.
    """

    mark: str
    steps: tuple[Step, ...]
    at_start: bool = False


class Free(Step, frozen=True, kw_only=True, tag="free"):
    """Text as the model likes it.

    A token that runs past a mark is cut there: the tokens of its bytes up to the mark join the
    answer in its place, and the rest is drawn anew under what follows.

    Args:
        until: The mark that ends this part, itself a part of it; empty: the answer's end does.
        most_tokens: After so many tokens the mark is forced; None: never. Where the model wants to
            end the answer before the mark, it is forced as well.
        triggers: Marks that interrupt it.
    """

    until: str = ""
    most_tokens: int | None = None
    triggers: tuple[Trigger, ...] = ()


class Literal(Step, frozen=True, kw_only=True, tag="literal"):
    """Text that is forced.

    Args:
        text: Text of control tokens in it becomes those tokens.
    """

    text: str


class Constrained(Step, frozen=True, kw_only=True, tag="constrained"):
    """Text that a constraint rules, until nothing may follow in it.

    In the midst of a plan an end token that it allows ends this part and not the answer.

    Args:
        kind: Name of the constraint type.
        format: The spec, as JSON text.
    """

    kind: str
    format: bytes


class Plan(Struct, frozen=True, kw_only=True):
    """The parts of an answer, in order. The answer ends after the last one.

    Args:
        steps: At least one.
    """

    steps: tuple[Step, ...]
