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
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._given = 0  # characters
        self._logprobs: list[tuple[int, TokenLogprob]] = []  # by where the token's text begins
        self.stopped = False

    @property
    def holds(self) -> bool:
        """Whether some text is held back: a half character, or what may begin a stop string."""
        return bool(self._held or self._decoder.getstate()[0])

    def feed(self, piece: bytes, logprob: TokenLogprob | None = None) -> str:
        """Take one token's bytes; give the text that is decided by them.

        Bytes that are no UTF-8 become U+FFFD.
        """
        if logprob is not None:
            self._logprobs.append((self._given + len(self._held), logprob))
        text = self._held + self._decoder.decode(piece)
        found = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            return self._stop(text[:found])
        return self._give(text, len(text) - self._undecided(text))

    def end(self) -> str:
        """The text still held when the answer ends for another reason than a stop string.

        Half a character at the very end is left out.
        """
        self._decoder.reset()
        return self._give(self._held, len(self._held))

    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Those of the tokens whose text has been given, at least its beginning, since last."""
        ready = len(self._logprobs)
        if self.holds:
            ready = sum(start < self._given for start, _ in self._logprobs)
        taken = tuple(logprob for _, logprob in self._logprobs[:ready])
        del self._logprobs[:ready]
        return taken

    def _give(self, text: str, length: int) -> str:
        self._held = text[length:]
        self._given += length
        return text[:length]

    def _stop(self, text: str) -> str:
        """End with the text before a stop string; tokens of nothing else leave no trace."""
        self.stopped = True
        self._decoder.reset()
        self._give(text, len(text))
        self._logprobs = [entry for entry in self._logprobs if entry[0] < self._given]
        return text

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
