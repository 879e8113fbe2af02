"""So many tasks work at once; the others wait in order, and may leave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from corral_kernel.contracts import FileRef, Source, SourceFile
from corral_kernel.errors import QueueFullError
from corral_kernel.store.steps import NeedsTask, Progress, Steps
from corral_kernel.tasks.creating import WAITING, carry_out
from corral_kernel.tasks.messages import Convert
from corral_kernel.tasks.process import Tasks
from corral_kernel.tasks.turns import Turn, Turns

MOST_WAITING = 4


@pytest.fixture(autouse=True)
async def _in_time(nothing_left: None) -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield


async def ask(turns: Turns, places: Sequence[int]) -> list[asyncio.Task[Turn]]:
    """Have each ask for a turn, one after the other."""
    asked = []
    for place in places:
        asked.append(asyncio.create_task(turns.take(place)))
        await asyncio.sleep(0)
    return asked


def whose(asked: Sequence[asyncio.Task[Turn]]) -> list[bool]:
    return [task.done() and not task.cancelled() for task in asked]


async def test_who_came_first_is_first() -> None:
    turns = Turns(2, MOST_WAITING)
    asked = await ask(turns, [turns.place() for _ in range(5)])
    assert whose(asked) == [True, True, False, False, False]
    assert turns.all_taken
    for number in range(5):
        turn = await asked[number]
        turn.end()
        turn.end()  # which is nothing more
        await asyncio.sleep(0)
        assert sum(whose(asked)) == min(5, number + 3)
    assert not turns.all_taken


async def test_a_request_s_second_task_goes_before_later_requests() -> None:
    turns = Turns(1, MOST_WAITING)
    early, late = turns.place(), turns.place()
    busy = await turns.take(early)
    later, again = await ask(turns, [late, early])
    busy.end()
    (await again).end()
    (await later).end()


@pytest.mark.parametrize("when", ["in the line", "as its turn comes", "just after"])
async def test_who_leaves_holds_nobody_up(when: str) -> None:
    turns = Turns(1, MOST_WAITING)
    busy = await turns.take(turns.place())
    leaver, other = await ask(turns, [turns.place(), turns.place()])
    if when == "in the line":
        leaver.cancel()
        await asyncio.wait([leaver])
        busy.end()
    elif when == "as its turn comes":
        leaver.cancel()
        busy.end()
    else:
        busy.end()
        leaver.cancel()
    (await other).end()
    assert leaver.cancelled()
    assert not turns.all_taken


async def test_a_line_has_an_end() -> None:
    turns = Turns(1, 1)
    busy = await turns.take(turns.place())
    (waiting,) = await ask(turns, [turns.place()])
    with pytest.raises(QueueFullError, match="maximum pending requests exceeded"):
        await turns.take(turns.place())
    busy.end()
    (await waiting).end()


# -------------------------------------------------------------------------- of real processes


@pytest.fixture
def creation(
    making_plugin: Path, wide: Path, tmp_path: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Turns], AsyncIterator[Progress]]:
    """Begin to copy a model in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(making_plugin))
    source = Source(
        kind="model",
        format="safetensors",
        files=(SourceFile(name="source.safetensors", size_bytes=1),),
        documents={"recipe.json": {"how": "copy"}},
    )
    file = FileRef(role="file", digest="", size_bytes=1, name="source.safetensors", path=str(wide))
    task = Convert(
        plugin="maker",
        maker="recipe",
        source=source,
        private={"how": "copy"},
        files=(file,),
        folder=str(tmp_path),
    )

    def steps() -> Steps[None]:
        assert (yield NeedsTask(task, "converting m", Progress("converting model", total=100)))
        yield Progress("success")

    return lambda turns: carry_out(steps(), tasks, turns)


async def test_who_waits_is_told_so(
    creation: Callable[[Turns], AsyncIterator[Progress]],
) -> None:
    turns = Turns(1, MOST_WAITING)
    busy = await turns.take(turns.place())
    steps = creation(turns)
    assert await anext(steps) == WAITING
    busy.end()
    assert [step async for step in steps][-1] == Progress("success")
    assert not turns.all_taken


async def test_a_client_that_reads_nothing_holds_no_turn_longer_than_its_process_lives(
    creation: Callable[[Turns], AsyncIterator[Progress]],
) -> None:
    turns = Turns(1, MOST_WAITING)
    async with contextlib.aclosing(creation(turns)) as slow:  # type: ignore[type-var]
        while not (await anext(slow)).completed:
            pass
        assert [step async for step in creation(turns)][-1] == Progress("success")
        assert [step async for step in slow][-1] == Progress("success")
