"""Models whose workers keep dying rest a while."""

import time
from collections import deque

from corral_kernel.errors import WorkerDiedError
from corral_kernel.scheduler.want import Want


class Deaths:
    """Counts deaths by model.

    Args:
        most: So many deaths,
        within_s: in so many seconds,
        rest_s: have a model rest for so long after the last of them.
    """

    def __init__(self, most: int = 3, within_s: float = 60.0, rest_s: float = 30.0) -> None:
        self._most = most
        self._within_s = within_s
        self._rest_s = rest_s
        self._times: dict[str, deque[float]] = {}
        self._last_words: dict[str, str] = {}

    def record(self, want: Want, last_words: str) -> None:
        """A worker died by itself; `last_words` is what it printed last."""
        times = self._times.setdefault(want.key, deque(maxlen=self._most))
        times.append(time.monotonic())
        self._last_words[want.key] = last_words

    def check(self, want: Want) -> None:
        """Refuse to load a model that rests.

        Raises:
            WorkerDiedError: It tells how long still, and the last words.
        """
        times = self._times.get(want.key)
        if times is None or len(times) < self._most or times[-1] - times[0] > self._within_s:
            return
        left_s = times[-1] + self._rest_s - time.monotonic()
        if left_s > 0:
            detail = (
                f"{self._most} workers of it died within {self._within_s:g} s, retry in "
                f"{left_s:.0f} s: {self._last_words[want.key] or 'the last said nothing'}"
            )
            raise WorkerDiedError(want.name, None, detail)
