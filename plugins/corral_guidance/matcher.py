"""The constraint of one job."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from corral_kernel.contracts import Constraint
from corral_kernel.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher
    from numpy.typing import NDArray

    from corral_guidance.compiler import Compiled

NOTHING = "there is no text that it allows"
_WORDS = 400


class GuidedConstraint(Constraint):
    """Follows an answer through a grammar.

    Args:
        matcher: At its beginning; the job's own.
        end_ids: Ids that end an answer. llguidance allows them by its mask, but does not take them
            where an answer is complete; so they are looked after here.
        compiled: What the matcher was copied from; it is told what is made in its lexer.
    """

    def __init__(self, matcher: LLMatcher, end_ids: Collection[int], compiled: Compiled) -> None:
        self._matcher = matcher
        self._end_ids = end_ids
        self._compiled = compiled
        self._ended = False

    def mask(self, out: NDArray[np.uint32]) -> bool:
        """Write the mask of the next token: some 10 µs.

        Raises:
            EngineError: If the grammar became too complex on the way.
        """
        began = time.perf_counter()
        self._matcher.unsafe_compute_mask_ptr(out.ctypes.data, out.nbytes)
        self._compiled.charge(time.perf_counter() - began)
        self._check()
        return True

    def accept(self, token_id: int) -> bool:
        """Take a token, or say that it is not allowed.

        Raises:
            EngineError: If the grammar became too complex on the way.
        """
        if self._ended:
            return False
        if token_id in self._end_ids:
            self._ended = self._matcher.is_accepting()
            return self._ended
        taken: int = self._matcher.try_consume_tokens([token_id])
        if not taken:
            self._check()
        return taken == 1

    def forced(self) -> Sequence[int]:
        """Tokens that must come next, as the tokenizer would write them."""
        if self._ended:
            return ()
        forced = self._matcher.compute_ff_tokens()
        # A tokenizer that adds a blank of its own would force what the grammar does not allow.
        return forced[: self._matcher.validate_tokens(forced)] if forced else ()

    def allows(self, token_ids: Sequence[int]) -> int:
        """How many of these would be accepted in turn."""
        if self._ended or not token_ids:
            return 0
        if token_ids[0] in self._end_ids:
            return int(self._matcher.is_accepting())
        return int(self._matcher.validate_tokens(list(token_ids)))

    def finished(self) -> bool:
        """Whether the answer is complete and nothing but its end may follow."""
        return self._ended or bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            self._compiled.spoiled = True  # jobs of this grammar share the bounds of one lexer
            why = brief(self._matcher.get_error())
            raise EngineError(f"the answer cannot be held to its format: {why}")


def brief(why: str) -> str:
    """Make one line of llguidance's words, without what it says of itself."""
    if why.startswith("NoExtension"):
        return NOTHING
    words = re.sub(r"<[a-z/-]*verbose/?>", "", why)
    words = " ".join(words.split())
    return words if len(words) <= _WORDS else f"{words[:_WORDS]}..."
