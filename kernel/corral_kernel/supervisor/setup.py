"""What all processes of a server are told as they start."""

import os

import msgspec

from corral_kernel.supervisor.jobs import JobLimits
from corral_kernel.worker.outbox import INTERVAL_S
from corral_kernel.worker.setup import Setup

LONGEST_TIMEOUT_S = 86400.0


class WorkerSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What all processes of a server share.

    Args:
        only: Plugins to load; None: all.
        disabled: Plugins to leave out.
        debug: Have them log more.
        load_timeout_s: Of loading without progress; infinite: none.
        step_timeout_s: While a job is open, of silence; infinite: none.
        text_deadline_s: Of rendering, tokenizing and compiling one request.
        sampler_timeout_s: Of a request's samplers and constraint in one step; infinite: none.
        interval_s: Between two frames of text; see the worker's `Outbox`.
        limits: Of readers of jobs.
        remotes: Hosts that models may run on.
    """

    only: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    debug: bool = False
    load_timeout_s: float = 300.0
    step_timeout_s: float = 120.0
    text_deadline_s: float = 20.0
    sampler_timeout_s: float = 1.0
    interval_s: float = INTERVAL_S
    limits: JobLimits = JobLimits()
    remotes: tuple[str, ...] = ()

    def argument(self, descriptor: int) -> str:
        """Give what a process finds on its command line; its end of the channel is `descriptor`."""
        setup = Setup(
            descriptor=descriptor,
            parent=os.getpid(),
            only=self.only,
            disabled=self.disabled,
            debug=self.debug,
            text_deadline_s=self.text_deadline_s,
            sampler_timeout_s=min(self.sampler_timeout_s, LONGEST_TIMEOUT_S),
            interval_s=min(self.interval_s, LONGEST_TIMEOUT_S),
        )
        return msgspec.json.encode(setup).decode()
