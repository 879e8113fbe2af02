"""Cached prefixes that lie beside the context.

Every query of a step walks over all cells that are in use, and throws away what is not of its own
sequence: on a processor, 3,000 cached cells made a step a quarter slower. So what is only cached
is copied out, and copied back when a prompt begins like it; that takes a thousandth of the time
that computing it takes.
"""

from collections.abc import Hashable
from dataclasses import dataclass

from corral_llamacpp.memory import Key, State, common_length

_LARGEST = 256 << 20
"""Bytes of one state: the answers that are being written wait while it is copied, some 50 ms."""
_WORTH_COPYING = 32
"""Positions that a state must spare a prompt."""
_MOSTLY = 7 / 8
"""Of a state that so much of is held elsewhere, the rest is not worth its bytes."""


@dataclass(slots=True, eq=False)
class Parked:
    """A sequence that was copied out: what it held, and the copy."""

    scope: Hashable
    keys: list[Key]
    state: State


class Parking:
    """What is parked, least recently used first.

    Args:
        limit: Bytes of all states together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: list[Parked] = []

    def __len__(self) -> int:
        """How many sequences are parked."""
        return len(self._entries)

    def takes(self, size: int) -> bool:
        """Whether a state of so many bytes may be parked."""
        return size <= min(_LARGEST, self._limit)

    def add(self, entry: Parked) -> None:
        """Park a state that it `takes`; what goes for it was of use the longest time ago."""
        self._entries = [old for old in self._entries if not _covers(entry, old)]
        self._entries.append(entry)
        excess = sum(old.state.nbytes for old in self._entries) - self._limit
        while excess > 0:
            excess -= self._entries.pop(0).state.nbytes

    def find(self, scope: Hashable, keys: list[Key], known: int) -> tuple[Parked, int] | None:
        """Find what begins most like a prompt.

        Args:
            scope: As of a lane.
            keys: Of the prompt.
            known: How many of its positions are to be had without.

        Returns:
            It, and the length of the common beginning, always less than `len(keys)`; None: nothing
            is worth copying back.
        """
        best, longest = None, known + _WORTH_COPYING
        for entry in self._entries:
            if entry.scope != scope:
                continue
            alike = min(common_length(entry.keys, keys), len(keys) - 1)
            if alike > longest:
                best, longest = entry, alike
        return (best, longest) if best else None

    def used(self, entry: Parked, length: int) -> None:
        """Note that the first positions were copied back; what has hardly more of them goes."""
        self.drop(entry)
        if length < _MOSTLY * len(entry.keys):
            self._entries.append(entry)

    def drop(self, entry: Parked) -> None:
        """Take an entry away."""
        self._entries.remove(entry)


def _covers(new: Parked, old: Parked) -> bool:
    alike = new.scope == old.scope and common_length(new.keys, old.keys)
    return alike >= _MOSTLY * len(old.keys)
