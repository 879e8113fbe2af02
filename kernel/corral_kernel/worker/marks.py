"""Marks in free text, wherever the borders of tokens are."""

from corral_kernel.contracts import Free, Tokenizer, Trigger
from corral_kernel.errors import EngineError


class Marks:
    """Looks for the marks of one piece of free text.

    Args:
        step: Whose marks.

    Attributes:
        until: The mark that ends it; empty: there is none.
        closing: The mark that ends it is being forced: what is forced last ends it.
    """

    def __init__(self, step: Free) -> None:
        self.until = step.until
        self.closing = False
        self._most_tokens = step.most_tokens
        self._marks: list[tuple[bytes, Free | Trigger]] = [
            (trigger.mark.encode(), trigger) for trigger in step.triggers if trigger.mark
        ]
        if step.until:
            self._marks.append((step.until.encode(), step))
        self._kept = max((len(mark) for mark, _ in self._marks), default=1) - 1
        self._tail = b""  # what a mark may have begun in
        self._blank = True  # nothing but white space stands before the tail

    def over(self, piece: bytes) -> int:
        """How many of the next token's bytes lie beyond the first mark that it completes."""
        text = self._tail + piece
        end, _ = self._first(text)
        return len(text) - end if end else 0

    def feed(self, piece: bytes) -> Free | Trigger | None:
        """Take a token's bytes; give whose mark they complete."""
        if self.closing:
            return self._marks[-1][1]
        text = self._tail + piece
        end, met = self._first(text)
        kept = 0 if end else min(self._kept, len(text))
        self._blank = self._blank and not text[: len(text) - kept].strip()
        self._tail = text[len(text) - kept :]
        return met

    def is_spent(self, tokens: int) -> bool:
        """Whether the mark that ends it is to be forced after so many tokens."""
        return bool(self.until) and self._most_tokens is not None and tokens >= self._most_tokens

    def missing(self) -> tuple[str, bool]:
        """What the mark that ends it still lacks, and whether it was begun."""
        mark = self.until.encode()
        for length in range(min(len(mark) - 1, len(self._tail)), 0, -1):
            if self._tail.endswith(mark[:length]):
                try:
                    return mark[length:].decode(), True
                except UnicodeDecodeError:
                    break  # begun within a character: that one stays as it is
        return self.until, False

    def _first(self, text: bytes) -> tuple[int, Free | Trigger | None]:
        """Where the first mark ends, and whose it is; of two that end there the longest."""
        best: tuple[int, int] | None = None
        whose: Free | Trigger | None = None
        for mark, owner in self._marks:
            at = text.find(mark)
            if at >= 0 and isinstance(owner, Trigger) and owner.at_start:
                at = at if self._blank and not text[:at].strip() else -1
            if at >= 0 and (best is None or (at + len(mark), at) < best):
                best, whose = (at + len(mark), at), owner
        return (0, None) if best is None else (best[0], whose)


def ids_of(tokenizer: Tokenizer, data: bytes) -> list[int]:
    """Token ids that stand for some bytes, as the tokenizer writes them where it can.

    Raises:
        EngineError: If no token begins with one of them.
    """
    try:
        ids = tokenizer.encode(data.decode(), special=False)
    except UnicodeDecodeError:
        ids = []
    if tokenizer.decode(ids) == data:
        return ids
    ids = []
    while data:
        lengths = (
            (len(piece), -token_id)
            for token_id, piece in enumerate(tokenizer.pieces)
            if piece and data.startswith(piece) and token_id not in tokenizer.control_ids
        )
        length, negative_id = max(lengths, default=(0, 0))
        if not length:
            raise EngineError(f"no token of this model begins with the byte {data[0]}")
        ids.append(-negative_id)
        data = data[length:]
    return ids
