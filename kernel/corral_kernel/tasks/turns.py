"""Whose turn it is: so many tasks work at once, and the others wait in a line.

turns = Turns(2, most_waiting=512)
place = turns.place()
turn = await turns.take(place)
turn.end()
"""

import asyncio
import bisect
import itertools

from corral_kernel.errors import QueueFullError


class Turn:
    """Leave for one task; may be ended twice."""

    def __init__(self, turns: "Turns") -> None:
        self._turns = turns
        self._over = False

    def end(self) -> None:
        """Let the next one work."""
        if not self._over:
            self._over = True
            self._turns._hand_on()  # noqa: SLF001 - the two are one


class Turns:
    """The line of a server's tasks. Who has a turn must not wait for another one.

    Args:
        most: Tasks at once.
        most_waiting: Tasks in the line.
    """

    def __init__(self, most: int, most_waiting: int) -> None:
        self._free = most
        self._most_waiting = most_waiting
        self._places = itertools.count()
        self._line: list[tuple[int, asyncio.Future[None]]] = []

    def place(self) -> int:
        """Give a place in the line by arrival, for all tasks of one request.

        With its first one done it goes before later requests: what lies half made takes room.
        """
        return next(self._places)

    @property
    def all_taken(self) -> bool:
        """Whether who asks now would wait."""
        return self._free == 0

    async def take(self, place: int) -> Turn:
        """Wait for a turn; who is cancelled meanwhile leaves the line.

        Raises:
            QueueFullError: If too many wait.
        """
        if not self.all_taken:
            self._free -= 1
            return Turn(self)
        if len(self._line) >= self._most_waiting:
            raise QueueFullError
        ours: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        bisect.insort(self._line, (place, ours), key=_place)
        try:
            await ours
        except asyncio.CancelledError:
            if ours.cancelled():
                self._line = [entry for entry in self._line if entry[1] is not ours]
            else:  # it has just become its turn
                self._hand_on()
            raise
        return Turn(self)

    def _hand_on(self) -> None:
        while self._line:
            _, waiting = self._line.pop(0)
            if not waiting.done():  # else it is about to leave the line
                waiting.set_result(None)
                return
        self._free += 1


def _place(entry: tuple[int, asyncio.Future[None]]) -> int:
    return entry[0]
