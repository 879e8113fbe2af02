"""Carries a creation out: its steps in threads, its tasks in processes of their own."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from corral_kernel.contracts import MadeFile
from corral_kernel.errors import CorralError
from corral_kernel.store.steps import NeedsTask, Progress, Steps
from corral_kernel.tasks.messages import Made
from corral_kernel.tasks.process import Tasks
from corral_kernel.tasks.turns import Turns
from corral_kernel.threads import to_its_end

WAITING: Final = Progress("waiting for other tasks to end")

_Step = Progress | NeedsTask | None


async def carry_out(
    steps: Steps[None], tasks: Tasks, turns: Turns
) -> AsyncGenerator[Progress, None]:
    """Take all steps; gives what clients are told.

    Closing the iterator ends a task that is under way and undoes what was done: once that returns,
    its process is gone, and its files too.

    Args:
        steps: Of `store.create_model`.
        tasks: Of this server.
        turns: The line that tasks wait in.

    Raises:
        CorralError: Why a step, or the task of one, failed.
    """
    place = turns.place()
    try:
        step = await to_its_end(next, steps, None)
        while step is not None:
            if isinstance(step, Progress):
                yield step
                step = await to_its_end(next, steps, None)
                continue
            made: tuple[MadeFile, ...] = ()
            try:
                async with contextlib.aclosing(_done(step, tasks, turns, place)) as doing:
                    async for told in doing:
                        if isinstance(told, Made):
                            made = told.files
                        else:
                            yield told
            except CorralError as error:
                step = await to_its_end(_answered, steps, error)
            else:
                step = await to_its_end(_answered, steps, made)
    finally:
        await to_its_end(steps.close)


async def _done(
    step: NeedsTask, tasks: Tasks, turns: Turns, place: int
) -> AsyncGenerator[Progress | Made, None]:
    """Do a task when it is its turn; gives what is new and, last, what was made."""
    if turns.all_taken:
        yield WAITING
    turn = await turns.take(place)
    try:
        last = step.shown
        yield last
        running = tasks.run(step.task, step.doing, turn.end)
        async with contextlib.aclosing(running):
            async for told in running:
                if isinstance(told, Made):
                    yield told
                elif (now := step.progress(told.completed, told.total)) != last:
                    last = now
                    yield now
    finally:
        turn.end()


def _answered(steps: Steps[None], outcome: tuple[MadeFile, ...] | CorralError) -> _Step:
    """Tell the steps how their task ended; gives the next one."""
    try:
        if isinstance(outcome, CorralError):
            return steps.throw(outcome)
        return steps.send(outcome)
    except StopIteration:
        return None
