"""A bounded cache that makes what it lacks once, however many threads ask for it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

SLICE_S = 0.01
"""Whoever waits looks up so often: an interrupt from outside reaches a thread between two waits."""
PATIENCE_S = 30.0
"""After so long a thread makes a thing itself, in case the one that makes it was lost."""


class Kept(Protocol):
    """What a cache holds."""

    @property
    def size_bytes(self) -> int:
        """An estimate, which may grow."""
        ...

    @property
    def stale(self) -> bool:
        """Whether it is to be made anew when it is next asked for."""
        ...


K = TypeVar("K")
V = TypeVar("V", bound=Kept)


class _Flight:
    """Something that is being made."""

    landed = False


class Cache(Generic[K, V]):
    """The things last used, bounded by count and size.

    A thread may be interrupted anywhere by one exception from outside. So nothing is made under the
    lock, nobody waits for long at once, and what must be put right is put right twice. The lock is
    a bare one: events and conditions, being written in Python, can themselves be left locked.

    Args:
        count: How many are kept.
        size_bytes: What all of them may take.
    """

    def __init__(self, count: int, size_bytes: int) -> None:
        self._count = count
        self._size_bytes = size_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._under_way: dict[K, _Flight] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K, make: Callable[[V | None], V]) -> V:
        """Give what is kept, or make and keep it.

        Args:
            key: Its name.
            make: Called by one thread at a time for a key, with what became stale. What it raises
                is not kept: the next one that asks makes it again.
        """
        while True:
            ours = _Flight()
            try:
                found, theirs = self._look(key, ours)
                if found is not None and not found.stale:
                    return found
                if theirs is ours:
                    made = make(found)
                    self._keep(key, made)
                    return made
            finally:
                try:
                    self._land(key, ours)
                finally:
                    self._land(key, ours)
            self._await(key, theirs)

    def _look(self, key: K, ours: _Flight) -> tuple[V | None, _Flight]:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                if not found.stale:
                    return found, ours
            return found, self._under_way.setdefault(key, ours)

    def _keep(self, key: K, made: V) -> None:
        with self._lock:
            self._kept[key] = made
            self._kept.move_to_end(key)
            while len(self._kept) > self._count or self._is_full():
                self._kept.popitem(last=False)

    def _is_full(self) -> bool:
        """Whether others than the last are over the bound; the last one is kept in any case."""
        return len(self._kept) > 1 and self._size() > self._size_bytes

    def _size(self) -> int:
        return sum(kept.size_bytes for kept in self._kept.values())

    def _land(self, key: K, ours: _Flight) -> None:
        with self._lock:
            if self._under_way.get(key) is ours:
                del self._under_way[key]
        ours.landed = True

    def _await(self, key: K, theirs: _Flight) -> None:
        end = time.monotonic() + PATIENCE_S
        while not theirs.landed:
            time.sleep(SLICE_S)
            if time.monotonic() > end:
                self._land(key, theirs)
