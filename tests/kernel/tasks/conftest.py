from collections.abc import AsyncIterator

import pytest

from corral_kernel.supervisor import SpareProcess, WorkerSetup
from corral_kernel.tasks.process import Tasks


@pytest.fixture
async def spare(nothing_left: None) -> AsyncIterator[SpareProcess]:
    """Gives processes; none waits until one is asked for."""
    spare = SpareProcess(WorkerSetup())
    yield spare
    await spare.close()


@pytest.fixture
def tasks(spare: SpareProcess) -> Tasks:
    return Tasks(spare)
