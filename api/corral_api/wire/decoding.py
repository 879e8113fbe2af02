"""The course of decoding one request: where it stands, what was wrong first, when it stops.

Upstream's decoder goes on after a value of a wrong type and reports the first such value at the
end; a type with a decoder of its own stops it at once. Both reach the client as text, and which of
them does is part of the contract.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn

from corral_api.wire.gojson import DecodeError, Node

MAX_VALUE_DEPTH: Final = 100
"""Levels of nesting in a value that is kept; what is unknown, and so ignored, may nest deeper."""


class NotPlainError(Exception):
    """The fast reader's value is not plainly right: the exact reader must tell."""


class Mismatch(NamedTuple):
    """A value of a wrong type, as upstream's decoder describes it."""

    value: str  # of which JSON kind, for a number perhaps with its text
    go_type: str
    struct: str = ""
    field: str = ""

    def __str__(self) -> str:
        if not self.struct:
            return f"json: cannot unmarshal {self.value} into Go value of type {self.go_type}"
        return (
            f"json: cannot unmarshal {self.value} into Go struct field "
            f"{self.struct}.{self.field} of type {self.go_type}"
        )


class StoppedError(Exception):
    """Decoding ended at once, as it does when a type's own decoder fails."""

    def __init__(self, fault: Mismatch | str) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Decoding:
    """The state of decoding one value: where it is, and what was wrong first.

    Args:
        raw: Gives the text of a top-level member's value by the member's key.
        exact: Whether the value comes from the exact reader. If not, whatever is wrong ends in
            `NotPlainError`.
        depth: Levels of nesting around the value.
    """

    def __init__(self, raw: Callable[[str], bytes], *, exact: bool, depth: int = 0) -> None:
        self.raw = raw
        self.exact = exact
        self.saved: Mismatch | str | None = None
        self.later: str | None = None  # a check of the request's, made after decoding
        self.struct = ""
        self.fields: list[str] = []
        self.depth = depth

    def enter(self) -> None:
        """Go one level deeper.

        Raises:
            DecodeError: If that is too deep.
        """
        self.depth += 1
        if self.depth > MAX_VALUE_DEPTH:
            raise DecodeError(f"json: values nested deeper than {MAX_VALUE_DEPTH} levels")

    def mismatch(self, value: str, go_type: str) -> None:
        """Note a value of a wrong type; the first one noted is reported."""
        self.save(Mismatch(value, go_type))

    def save(self, fault: Mismatch | str) -> None:
        """Note what is wrong, and where; the first fault noted is reported."""
        if not self.exact:
            raise NotPlainError
        if self.saved is None:
            self.saved = self.located(fault)

    def stop(self, fault: Mismatch | str) -> NoReturn:
        """End the decoding with this fault."""
        if not self.exact:
            raise NotPlainError
        raise StoppedError(fault)

    def located(self, fault: Mismatch | str) -> Mismatch | str:
        """Add to a mismatch the field where the decoding is."""
        if isinstance(fault, str) or not self.struct:
            return fault
        field = ".".join([*self.fields, fault.field] if fault.field else self.fields)
        return fault._replace(struct=self.struct, field=field)

    def nested(self, kind: "Kind", node: Node) -> Any:
        """Decode by a decoding of its own, whose fault ends this one."""
        inner = Decoding(self.raw, exact=self.exact, depth=self.depth)
        try:
            value = kind.take(node, inner)
        except StoppedError as stopped:
            raise StoppedError(inner.located(stopped.fault)) from None
        if inner.saved is not None:
            raise StoppedError(inner.saved)
        return value


class Kind:
    """One Go type."""

    zero: Any = None
    """What JSON's null leaves in an element of a list or map."""

    def take(self, node: Node, state: Decoding) -> Any:
        """Convert a value other than null; a wrong one is noted in `state`, and `zero` returned."""
        raise NotImplementedError
