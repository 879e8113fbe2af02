"""From chosen tokens to text: UTF-8 and stop strings across token borders."""

import codecs
from collections.abc import Sequence

from corral_kernel.frames import TokenLogprob


class Output:
    """The text of one answer as it grows.

    Args:
        stops: Texts that end the answer and are no part of it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""
        self._logprobs: list[TokenLogprob] = []
        self.stopped = False

    def feed(self, piece: bytes, logprob: TokenLogprob | None = None) -> str:
        """Take one token's bytes; give the text that is decided by them.

        Text that may be the beginning of a stop string is held back until it is known.
        """
        if logprob is not None:
            self._logprobs.append(logprob)
        self._held += self._decode(piece)
        return self._release(final=False)

    def end(self) -> str:
        """The text still held when the answer ends for another reason than a stop string."""
        self._held += self._decode(b"", final=True)
        return "" if self.stopped else self._release(final=True)

    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Those of the tokens whose text has been given since the last call."""
        if self._held:
            return ()
        taken, self._logprobs = tuple(self._logprobs), []
        return taken

    def _release(self, *, final: bool) -> str:
        text = self._held
        found = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.stopped = True
            self._held = ""
            self._logprobs.clear()
            return text[:found]
        held = 0 if final else self._undecided(text)
        cut = len(text) - held
        self._held = text[cut:]
        return text[:cut]

    def _undecided(self, text: str) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest


class RepeatGuard:
    """Counts equal pieces in a row, compared without surrounding white space.

    Args:
        limit: How many in a row are too many; 0: never.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last: str | None = None
        self._count = 0

    def tripped(self, text: str) -> bool:
        """Whether this piece is one too many."""
        if not self._limit:
            return False
        piece = text.strip()
        self._count = self._count + 1 if piece == self._last else 1
        self._last = piece
        return self._count >= self._limit
