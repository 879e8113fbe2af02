"""The server's end of its processes: starting, talking, watching, ending.

Everything here belongs to the event loop's thread, which also starts the processes: on Linux a
worker is told of its parent's end by the end of the *thread* that forked it.
"""

from corral_kernel.supervisor.child import ChildProcess
from corral_kernel.supervisor.jobs import JobLimits, JobStream
from corral_kernel.supervisor.process import WorkerProcess
from corral_kernel.supervisor.setup import WorkerSetup
from corral_kernel.supervisor.spare import SpareProcess

__all__ = [
    "ChildProcess",
    "JobLimits",
    "JobStream",
    "SpareProcess",
    "WorkerProcess",
    "WorkerSetup",
]
