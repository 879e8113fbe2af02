"""The engine of `corral_repeat`, with faults. Runs in a worker."""

from __future__ import annotations

import msgspec
from corral_kernel.contracts import Admission, Job, LoadRequest, Rows

from corral_echo.faults import StepFaults, load_faults
from corral_echo.options import EchoOptions
from corral_repeat.engine import RepeatEngine, Running
from corral_repeat.tokenizer import BOS_ID


def load(request: LoadRequest) -> EchoEngine:
    """Make an engine; `request.options` has the effective sizes.

    Raises:
        LoadError: If the options say so, or loading was given up.
        TypeError: If the options are another backend's.
    """
    options = request.options
    if not isinstance(options, EchoOptions):
        raise TypeError(f"echo was given {type(options).__name__}, not the EchoOptions it named")
    load_faults(options, request.report)
    return EchoEngine(options, request.slots)


class EchoEngine(RepeatEngine):
    """Repeats each prompt, byte by byte, and ends; has what faults it is told to have."""

    def __init__(self, options: EchoOptions, slots: int) -> None:
        super().__init__(options, slots)
        self.info = msgspec.structs.replace(self.info, memory_bytes=options.echo_memory_bytes)
        self._faults = StepFaults(options)
        self._texts: dict[int, str] = {}

    def admit(self, job: Job) -> Admission | None:
        """Give a job a slot; None while all are taken."""
        admission = super().admit(job)
        if admission is not None:
            text = bytes(i for i in job.prompt.history() if i < BOS_ID)
            self._texts[job.id] = text.decode(errors="replace")
        return admission

    def batch(self) -> list[tuple[Running, int]]:
        """Jobs to feed; the faults of a step come with its beginning."""
        batch = super().batch()
        self._faults.step([self._texts[job.job_id] for job, _ in batch])
        return batch

    def feed(self, job: Running, limit: int) -> Rows:
        """Feed one job, or fail it."""
        rows = super().feed(job, limit)
        error = self._faults.error(self._texts[job.job_id])
        return Rows(rows.job_id, rows.fed, error=error) if error else rows

    def release(self, job_id: int) -> None:
        """Free the job's slot."""
        super().release(job_id)
        del self._texts[job_id]
