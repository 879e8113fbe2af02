"""The prefix cache against a model of the library's cells that knows nothing of trees."""

import random
from dataclasses import dataclass, field

import pytest

from corral_llamacpp.memory import Key, Lane
from corral_llamacpp.shared import SharedMemory


@dataclass(eq=False)
class Cell:
    """One position's values; `key` is what they were computed from."""

    key: Key
    moved: bool = False


@dataclass
class NaiveCells:
    """Sequences as plain dictionaries from position to cell."""

    sequences: dict[int, dict[int, Cell]] = field(default_factory=dict)
    fed: int = 0

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
            cell.moved = True
            self.of(sequence)[position + by] = cell

    def first(self, sequence: int) -> int:
        return min(self.of(sequence), default=-1)

    def feed(self, memory: SharedMemory, lane: Lane, count: int, capacity: int) -> None:
        """What the engine does with a lane in one step."""
        memory.make_room(count)
        for position in range(lane.fed, lane.fed + count):
            assert position not in self.of(lane.sequence)
            key = lane.keys[position] if position < len(lane.keys) else "draft"
            self.of(lane.sequence)[position] = Cell(key)
        self.fed += count
        memory.advance(lane, count)
        assert self.used <= capacity


def check(memory: SharedMemory, cells: NaiveCells, lanes: list[Lane]) -> None:
    assert memory.used == cells.used
    for lane in lanes:
        held = cells.of(lane.sequence)
        assert sorted(held) == list(range(lane.fed))
        known = min(lane.fed, len(lane.keys))
        assert [held[p].key for p in range(known)] == lane.keys[:known]


@pytest.mark.parametrize("seed", range(30))
def test_cells_are_counted_exactly_and_an_open_lane_can_always_be_fed(seed: int) -> None:
    dice = random.Random(seed)
    capacity, slots = dice.choice([64, 200, 600]), dice.choice([1, 3, 5])
    cells = NaiveCells()
    memory = SharedMemory(cells, capacity, slots + dice.choice([2, 4, 12]))
    lanes: list[Lane] = []
    texts = [[dice.choice("ab") for _ in range(dice.randrange(1, 60))] for _ in range(6)]
    for _ in range(400):
        action = dice.random()
        if action < 0.25 and len(lanes) < slots:
            keys = list(dice.choice(texts)) + [dice.choice("abc") for _ in range(dice.randrange(9))]
            total = len(keys) + dice.randrange(30)
            if lane := memory.open(dice.choice("xy"), keys, total):
                assert lane.fed < len(keys)
                lanes.append(lane)
            else:
                assert lanes or total > capacity
        elif action < 0.7 and lanes:
            lane = dice.choice(lanes)
            if lane.fed < len(lane.keys):
                count = dice.randint(1, len(lane.keys) - lane.fed)
                cells.feed(memory, lane, count, capacity)
            elif lane.fed == len(lane.keys) and len(lane.keys) < lane.total:
                lane.keys.append(dice.choice("ab"))
        elif action < 0.75 and lanes:
            lane = dice.choice(lanes)
            drafts = min(3, lane.total - lane.fed)
            if lane.fed == len(lane.keys) and drafts:
                cells.feed(memory, lane, drafts, capacity)
                memory.trim(lane, len(lane.keys))
        elif action < 0.8 and lanes:
            memory.join(dice.choice(lanes))
        elif action < 0.85 and lanes:
            lane = dice.choice(lanes)
            if lane.fed == len(lane.keys) > 2:
                start = dice.randrange(lane.fed - 1)
                stop = dice.randint(start + 1, lane.fed)
                if memory.cut(lane, start, stop):
                    del lane.keys[start:stop]
        elif action > 0.9 and lanes:
            memory.close(lanes.pop(dice.randrange(len(lanes))))
        check(memory, cells, lanes)
    while lanes:
        memory.close(lanes.pop())
        check(memory, cells, lanes)
    memory.drop_cached()
    assert memory.used == cells.used == 0
