"""The prefix cache against a model of the library's cells that knows nothing of trees."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from corral_llamacpp.memory import Key, Lane, State
from corral_llamacpp.parking import Parking
from corral_llamacpp.shared import SharedMemory

DRAFT = -1


@dataclass(eq=False)
class Cell:
    """One position's values; `key` is what they were computed from."""

    key: Key


@dataclass
class NaiveCells:
    """Sequences as plain dictionaries from position to cell."""

    dice: random.Random
    refusing: float = 0.0
    sequences: dict[int, dict[int, Cell]] = field(default_factory=dict)
    restored: int = 0

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

    def size(self, sequence: int) -> int:
        return 8 * len(self.of(sequence))

    def save(self, sequence: int) -> State:
        held = self.of(sequence)
        assert sorted(held) == list(range(len(held)))
        return np.array([held[p].key for p in sorted(held)], np.int64).view(np.uint8)

    def restore(self, sequence: int, state: State) -> bool:
        assert not self.of(sequence)
        if self.dice.random() < self.refusing:
            return False
        for position, key in enumerate(state.view(np.int64)):
            self.of(sequence)[position] = Cell(int(key))
        self.restored += 1
        return True

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
        self.capacity = self.dice.choice([64, 200, 600, 2000])
        self.slots = self.dice.choice([1, 3, 5])
        self.cells = NaiveCells(self.dice, self.dice.choice([0.0, 0.3]))
        sequences = self.slots + self.dice.choice([2, 4, 12])
        limit = self.dice.choice([0, 2000, 20000])
        self.memory = SharedMemory(
            self.cells, self.capacity, sequences, parking=Parking(limit) if limit else None
        )
        self.lanes: list[Lane] = []
        self.texts = [self.word(self.dice.randrange(1, 60 + self.capacity // 10)) for _ in range(6)]

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


def test_what_no_lane_holds_leaves_the_cells_and_comes_back() -> None:
    cells = NaiveCells(random.Random(1))
    memory = SharedMemory(cells, 2000, 8, parking=Parking(1 << 20))
    long, other = [1, 2] * 200, [2, 1] * 50
    run(cells, memory, "x", long)
    run(cells, memory, "x", other)
    assert memory.used == cells.used == len(other)

    elsewhere = memory.open("y", long, 500)
    assert elsewhere is not None
    assert elsewhere.fed == 0
    memory.close(elsewhere)

    again = memory.open("x", [*long[:390], 3, 3, 3], 500)
    assert again is not None
    assert (again.fed, cells.restored) == (390, 1)
    assert [cells.of(again.sequence)[p].key for p in range(390)] == long[:390]
    assert memory.used == cells.used == 390 + len(other)  # too few others to be worth parking


def test_a_beginning_of_many_stays_in_the_cells() -> None:
    cells = NaiveCells(random.Random(1))
    memory = SharedMemory(cells, 2000, 8, parking=Parking(1 << 20))
    system = [1, 2] * 200
    for ending in range(3):
        run(cells, memory, "x", [*system, *[ending] * 20])
    run(cells, memory, "x", [2] * 20)
    assert memory.used == cells.used == len(system) + 4 * 20


def test_no_more_is_parked_than_there_is_memory_for() -> None:
    cells = NaiveCells(random.Random(1))
    memory = SharedMemory(cells, 2000, 8, parking=Parking(8 * 700))
    for text in (texts := [[place] * 300 for place in range(4)]):
        run(cells, memory, "x", text)
    found = [memory.open("x", [*text, 9], 301) for text in texts]
    assert [lane.fed for lane in found if lane] == [0, 0, 300, 300]


def test_what_cannot_be_copied_back_is_fed_anew() -> None:
    cells = NaiveCells(random.Random(1), refusing=1.0)
    memory = SharedMemory(cells, 2000, 8, parking=Parking(1 << 20))
    run(cells, memory, "x", [1] * 300)
    run(cells, memory, "x", [2] * 300)
    lane = memory.open("x", [1] * 300, 400)
    assert lane is not None
    assert lane.fed == 0
    memory.close(lane)
    memory.drop_cached()
    assert memory.used == cells.used == 0


def run(cells: NaiveCells, memory: SharedMemory, scope: str, keys: list[Key]) -> None:
    """Feed a lane all that it is to be fed, and close it."""
    lane = memory.open(scope, list(keys), len(keys))
    assert lane is not None
    cells.feed(memory, lane, len(keys) - lane.fed, 2000)
    memory.close(lane)
