"""Where some tokens stand among the candidates."""

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates


def find(
    candidates: Candidates, token_ids: NDArray[np.int32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find tokens among candidates.

    Args:
        candidates: Whole row or shortlist.
        token_ids: Rising, none twice, none negative, shape `(m,)`.

    Returns:
        Positions in the candidates, and for each the position in `token_ids`; those that are no
        candidates are left out.
    """
    if candidates.ids is None:
        known = int(token_ids.searchsorted(len(candidates)))
        return token_ids[:known].astype(np.intp), np.arange(known)
    if not len(token_ids):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    nearest = np.minimum(token_ids.searchsorted(candidates.ids), len(token_ids) - 1)
    index = (token_ids[nearest] == candidates.ids).nonzero()[0]
    return index, nearest[index]
