"""Has a worker load the model of an instance."""

from corral_kernel import API_VERSION, frames
from corral_kernel.contracts import EngineInfo
from corral_kernel.errors import WorkerDiedError
from corral_kernel.scheduler.instance import Instance
from corral_kernel.supervisor import WorkerProcess


async def load_on(worker: WorkerProcess, instance: Instance) -> EngineInfo:
    """Load a model, and wait until it is there.

    Raises:
        WorkerDiedError: If the worker ends over it, or right after.
        CorralError: Why it cannot be loaded.
    """
    want = instance.want
    info = await worker.load(
        want.name,
        frames.Load(
            api_version=API_VERSION,
            plugin=want.plugin,
            claim=want.claim,
            options=want.options,
            files=want.files,
            slots=instance.slots,
        ),
    )
    if worker.lost.done():  # it ended, or was ended, right after it said that it is ready
        raise WorkerDiedError(want.name, None)
    return info
