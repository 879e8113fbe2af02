"""What candidates' chances were when a sampler saw them, to be asked once one is chosen."""

import numpy as np
from numpy.typing import NDArray


class Chances:
    """Probabilities at one position.

    Args:
        parts: Probabilities but for a common factor `(n,)`; the caller leaves them as they are.
        ids: Of the tokens `(n,)`; None: a whole row.
    """

    def __init__(self, parts: NDArray[np.float32], ids: NDArray[np.int32] | None) -> None:
        self._parts = parts
        self._ids = ids

    def of(self, token_id: int) -> float:
        """The probability of a token; 0 if it was no candidate."""
        index: int | None = token_id if token_id < len(self._parts) else None
        if self._ids is not None:
            found = (self._ids == token_id).nonzero()[0]
            index = int(found[0]) if len(found) else None
        if index is None:
            return 0.0
        return float(self._parts[index]) / float(self._parts.sum(dtype=np.float64))
