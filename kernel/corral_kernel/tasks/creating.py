"""Carries a creation out: its steps in threads, its tasks in processes of their own."""

import contextlib
from collections.abc import AsyncGenerator

from corral_kernel.contracts import MadeFile
from corral_kernel.errors import CorralError
from corral_kernel.store.steps import NeedsTask, Progress, Steps
from corral_kernel.tasks.messages import Made
from corral_kernel.tasks.process import TaskLimits, run_task
from corral_kernel.threads import to_its_end

_Step = Progress | NeedsTask | None


async def carry_out(steps: Steps[None], limits: TaskLimits) -> AsyncGenerator[Progress, None]:
    """Take all steps; gives what clients are told.

    Closing the iterator ends a task that is under way and undoes what was done: once that returns,
    its process is gone, and its files too.

    Args:
        steps: Of `store.create_model`.
        limits: Of task processes.

    Raises:
        CorralError: Why a step, or the task of one, failed.
    """
    try:
        step = await to_its_end(next, steps, None)
        while step is not None:
            if isinstance(step, Progress):
                yield step
                step = await to_its_end(next, steps, None)
                continue
            last = step.shown
            yield last
            outcome: tuple[MadeFile, ...] | CorralError = ()
            try:
                async with contextlib.aclosing(run_task(step.task, step.doing, limits)) as running:
                    async for told in running:
                        if isinstance(told, Made):
                            outcome = told.files
                        elif (now := step.progress(told.completed, told.total)) != last:
                            last = now
                            yield now
            except CorralError as error:
                outcome = error
            step = await to_its_end(_answered, steps, outcome)
    finally:
        await to_its_end(steps.close)


def _answered(steps: Steps[None], outcome: tuple[MadeFile, ...] | CorralError) -> _Step:
    """Tell the steps how their task ended; gives the next one."""
    try:
        if isinstance(outcome, CorralError):
            return steps.throw(outcome)
        return steps.send(outcome)
    except StopIteration:
        return None
