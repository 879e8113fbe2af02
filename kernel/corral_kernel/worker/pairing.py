"""Jobs with companions: admitted together, and given a token once all their sequences have rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral_kernel.contracts import Admission, Rows, TokenEngine
from corral_kernel.errors import CorralError, EngineError, OutOfMemoryError
from corral_kernel.worker.running import Running
from corral_kernel.worker.track import Track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def admit_all(engine: TokenEngine, job: Running) -> Admission | None:
    """Admit all sequences of a job, or none of them: else two jobs could wait for each other.

    Returns:
        What the engine said of the first; None: there is no room just now.
    """
    admitted: list[Admission] = []
    try:
        for track in job.tracks:
            admission = engine.admit(track.job(job.left))
            if admission is None:
                break
            admitted.append(admission)
    finally:
        if len(admitted) < len(job.tracks):
            for track in job.tracks[: len(admitted)]:
                engine.release(track.id)
    return admitted[0] if len(admitted) == len(job.tracks) else None


def no_room(job: Running) -> CorralError:
    """Make the error of a job that finds no room while nothing else runs."""
    if not job.companions:
        return EngineError("it found no room, with nothing else running")
    return OutOfMemoryError(
        f"the {len(job.tracks)} prompts of this request do not fit together, with nothing else "
        "running: its samplers add prompts of their own; shorten them, or lower num_predict"
    )


class Pairing:
    """The rows of jobs with companions. Who has one before the others is not fed meanwhile."""

    def __init__(self) -> None:
        self._jobs: dict[int, tuple[Running, Track]] = {}  # by sequence
        self._early: list[Track] = []  # had their rows in this step, and wait for others

    def add(self, job: Running) -> None:
        """A job was admitted."""
        if job.companions:
            self._jobs.update((track.id, (job, track)) for track in job.tracks)

    def remove(self, job: Running) -> None:
        """It was released."""
        for track in job.tracks:
            self._jobs.pop(track.id, None)

    def job_of(self, sequence: int) -> Running | None:
        """Whose a sequence is; None for one of a job without companions, or of none any more."""
        found = self._jobs.get(sequence)
        return found and found[0]

    def take(self, rows: Rows) -> "Sequence[NDArray[np.float32]]":
        """Take what a step did for a sequence; give the rows of its job when they are complete.

        Returns:
            One row `(vocab_size,)` for each sequence, the job's own first; none: some are missing.
        """
        job, track = self._jobs[rows.job_id]
        if rows.logits is None:
            return ()
        track.row = rows.logits[0]
        complete = [each.row for each in job.tracks if each.row is not None]
        if len(complete) < len(job.tracks):
            self._early.append(track)
            return ()
        for each in job.tracks:
            each.row = None
        return complete

    def keep(self) -> None:
        """The step is over: copy the rows that are not valid any more after the next one."""
        for track in self._early:
            if track.row is not None:
                track.row = track.row.copy()
        self._early.clear()
