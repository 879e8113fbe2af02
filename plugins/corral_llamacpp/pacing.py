"""How much of a prompt to feed in one step."""

from collections.abc import Callable
from time import perf_counter


class Pacing:
    """Learns what steps cost, so that prompts do not hold up answers that are being written.

    Beside running jobs a step lasts at most three steps without a prompt, or 100 ms if that is
    more; alone it takes whole micro-batches, but at most two seconds where the library is slow, so
    that a cancel is noticed.

    Args:
        batch_tokens: Of a whole micro-batch.
        cautious: Begin with a small step, for a model that may be very slow.
        clock: Gives seconds.
    """

    _LEAST = 32
    _BESIDE_S = 0.1
    _ALONE_S = 2.0

    def __init__(
        self,
        batch_tokens: int,
        *,
        cautious: bool = False,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._clock = clock
        self._whole = batch_tokens
        self._decode_s = 0.0  # of a step without a prompt
        self._token_s = self._ALONE_S / 128 if cautious else 0.0  # of one prompt token
        self._started = 0.0

    def prompt_tokens(self, *, running: bool) -> int:
        """Prompt tokens that the next step may feed."""
        if self._token_s == 0.0:
            return min(self._whole, self._LEAST * 2) if running else self._whole
        if running:
            time_s = max(2 * self._decode_s, self._BESIDE_S - self._decode_s)
        else:
            time_s = self._ALONE_S
        return min(self._whole, max(self._LEAST, int(time_s / self._token_s)))

    def start(self) -> None:
        """A step begins."""
        self._started = self._clock()

    def stop(self, prompt_tokens: int, *, running: bool) -> None:
        """It ended; `prompt_tokens` of it were prompt."""
        spent_s = self._clock() - self._started
        if not prompt_tokens:
            self._decode_s = _smooth(self._decode_s, spent_s)
        elif prompt_tokens >= self._LEAST:  # fewer tell little of what one more costs
            of_prompt = spent_s - self._decode_s if running else spent_s
            self._token_s = _smooth(self._token_s, max(of_prompt, 1e-6) / prompt_tokens)


def _smooth(old: float, new: float) -> float:
    return new if old == 0.0 else 0.75 * old + 0.25 * new
