"""The prefix cache against a model of the library's cells that knows nothing of trees."""

import random
from dataclasses import dataclass, field

import pytest

from corral_llamacpp.memory import Key, Lane
from corral_llamacpp.shared import SharedMemory

DRAFT = -1


@dataclass(eq=False)
class Cell:
    """One position's values; `key` is what they were computed from."""

    key: Key


@dataclass
class NaiveCells:
    """Sequences as plain dictionaries from position to cell."""

    sequences: dict[int, dict[int, Cell]] = field(default_factory=dict)

    def of(self, sequence: int) -> dict[int, Cell]:
        return self.sequences.setdefault(sequence, {})

    @property
    def used(self) -> int:
        return len({id(cell) for held in self.sequences.values() for cell in held.values()})

    def remove(self, sequence: int, start: int, stop: int) -> bool:
        for position in [p for p in self.of(sequence) if start <= p and (stop < 0 or p < stop)]:
            del self.of(sequence)[position]
        return True

    def share(self, source: int, target: int, start: int, stop: int) -> None:
        for position, cell in self.of(source).items():
            if start <= position and (stop < 0 or position < stop):
                assert self.of(target).get(position, cell) is cell, "two cells for a position"
                self.of(target)[position] = cell

    def move(self, sequence: int, start: int, stop: int, by: int) -> None:
        moved = {
            p: c for p, c in self.of(sequence).items() if start <= p and (stop < 0 or p < stop)
        }
        for other, held in self.sequences.items():
            if other != sequence:
                assert not {id(c) for c in held.values()} & {id(c) for c in moved.values()}
        for position in moved:
            del self.of(sequence)[position]
        for position, cell in moved.items():
            self.of(sequence)[position + by] = cell

    def first(self, sequence: int) -> int:
        return min(self.of(sequence), default=-1)

    def feed(self, memory: SharedMemory, lane: Lane, count: int, capacity: int) -> None:
        """What the engine does with a lane in one step."""
        memory.make_room(count)
        for position in range(lane.fed, lane.fed + count):
            assert position not in self.of(lane.sequence)
            key = lane.keys[position] if position < len(lane.keys) else DRAFT
            self.of(lane.sequence)[position] = Cell(key)
        memory.advance(lane, count)
        assert self.used <= capacity


class Scenario:
    """Lanes that are opened, fed, drafted, cut and closed at random."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.capacity = self.dice.choice([64, 200, 600])
        self.slots = self.dice.choice([1, 3, 5])
        self.cells = NaiveCells()
        sequences = self.slots + self.dice.choice([2, 4, 12])
        self.memory = SharedMemory(self.cells, self.capacity, sequences)
        self.lanes: list[Lane] = []
        self.texts = [self.word(self.dice.randrange(1, 60)) for _ in range(6)]

    def word(self, length: int) -> list[Key]:
        return [self.dice.randrange(2) for _ in range(length)]

    def act(self) -> None:
        """Do one thing at random, where it can be done."""
        actions = [self.open, self.feed, self.feed, self.feed, self.draft, self.join, self.cut]
        action = self.dice.choice([*actions, self.close])
        if action == self.open:
            self.open()
        elif self.lanes:
            action(self.dice.choice(self.lanes))

    def open(self, _lane: Lane | None = None) -> None:
        if len(self.lanes) == self.slots:
            return
        keys = self.dice.choice(self.texts) + self.word(self.dice.randrange(9))
        total = len(keys) + self.dice.randrange(30)
        lane = self.memory.open(self.dice.choice("xy"), keys, total)
        if lane is None:
            assert self.lanes or total > self.capacity
            return
        assert lane.fed < len(keys)
        self.lanes.append(lane)

    def feed(self, lane: Lane) -> None:
        left = len(lane.keys) - lane.fed
        if left > 0:
            self.cells.feed(self.memory, lane, self.dice.randint(1, left), self.capacity)
        elif len(lane.keys) < lane.total:
            lane.keys += self.word(1)

    def draft(self, lane: Lane) -> None:
        drafts = min(3, lane.total - lane.fed)
        if lane.fed == len(lane.keys) and drafts:
            self.cells.feed(self.memory, lane, drafts, self.capacity)
            self.memory.trim(lane, len(lane.keys))

    def join(self, lane: Lane) -> None:
        self.memory.join(lane)

    def cut(self, lane: Lane) -> None:
        if lane.fed == len(lane.keys) > 2:
            start = self.dice.randrange(lane.fed - 1)
            stop = self.dice.randint(start + 1, lane.fed)
            if self.memory.cut(lane, start, stop):
                del lane.keys[start:stop]

    def close(self, lane: Lane) -> None:
        self.lanes.remove(lane)
        self.memory.close(lane)

    def check(self) -> None:
        """Compare what is counted with what there is."""
        assert self.memory.used == self.cells.used
        for lane in self.lanes:
            held = self.cells.of(lane.sequence)
            assert sorted(held) == list(range(lane.fed))
            assert [held[p].key for p in range(lane.fed)] == lane.keys[: lane.fed]


@pytest.mark.parametrize("seed", range(30))
def test_cells_are_counted_exactly_and_an_open_lane_can_always_be_fed(seed: int) -> None:
    scenario = Scenario(seed)
    for _ in range(400):
        scenario.act()
        scenario.check()
    while scenario.lanes:
        scenario.close(scenario.lanes[0])
        scenario.check()
    scenario.memory.drop_cached()
    assert scenario.memory.used == scenario.cells.used == 0
