"""Draft tokens out of the text itself."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST, SHORTEST = 4, 2
WINDOW = 4096


class PromptLookup:
    """Guesses that what followed the last few tokens before will follow them again.

    Args:
        count: Tokens to propose at most.

    Source: Saxena, "Prompt Lookup Decoding", 2023.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def propose(self, token_ids: "NDArray[np.int32]", room: int) -> list[int]:
        """What followed the latest earlier occurrence of the longest tail that has one.

        Args:
            token_ids: All positions so far `(n,)`; the last 4,096 are searched.
            room: Tokens that there is room for.
        """
        import numpy as np

        ids = token_ids[-WINDOW:]
        count = min(self._count, room)
        for length in range(LONGEST, SHORTEST - 1, -1):
            if count <= 0 or len(ids) <= length:
                continue
            windows = np.lib.stride_tricks.sliding_window_view(ids[:-1], length)
            hits = np.flatnonzero((windows == ids[-length:]).all(axis=1))
            if len(hits):
                start = int(hits[-1]) + length
                guess: list[int] = ids[start : start + count].tolist()
                return [] if -1 in guess else guess
        return []
