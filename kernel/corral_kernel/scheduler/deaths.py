"""Models whose workers keep dying rest a while."""

import time
from collections import deque

from corral_kernel.errors import WorkerDiedError
from corral_kernel.scheduler.want import Want

MOST_DEATHS = 3
WITHIN_S = 60.0
REST_S = 30.0


class Deaths:
    """Counts deaths by model."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def record(self, want: Want) -> None:
        """A worker died by itself."""
        times = self._times.setdefault(want.key, deque(maxlen=MOST_DEATHS))
        times.append(time.monotonic())

    def check(self, want: Want) -> None:
        """Refuse a model that rests.

        Raises:
            WorkerDiedError: If it died three times in a minute, less than half a minute ago.
        """
        times = self._times.get(want.key)
        if times is None or len(times) < MOST_DEATHS or times[-1] - times[0] > WITHIN_S:
            return
        left = times[-1] + REST_S - time.monotonic()
        if left > 0:
            detail = f"{MOST_DEATHS} workers of it died within a minute; retry in {left:.0f} s"
            raise WorkerDiedError(want.name, None, detail)
