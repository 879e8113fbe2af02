"""One sequence of a job in the engine: the job's own, or a companion's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral_kernel.contracts import Job, Prompt, TokenSegment
from corral_kernel.frames import Generate
from corral_kernel.sampling import HistoryView
from corral_kernel.worker.prompting import kept_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_MOVING = 4
"""Positions at the end of the window that `num_keep` cannot claim."""


class Track:
    """What the engine holds of a sequence, and how it fits into the window.

    Args:
        track_id: The engine's name of it.
        spec: The job's request.
        prompt: What to continue.
        view: The history; begins as the prompt's. Who appends to it is the caller's affair.

    Attributes:
        row: Its latest logits, of which the others' are still to come.
    """

    def __init__(self, track_id: int, spec: Generate, prompt: Prompt, view: HistoryView) -> None:
        self.id = track_id
        self.view = view
        self.row: NDArray[np.float32] | None = None
        self._spec = spec
        self._prompt = prompt
        self._anew = False  # the view is what the engine is to hold

    def begin_with(self, token_ids: Sequence[int]) -> None:
        """Let tokens join the prompt: what has to come first needs no step of its own."""
        self._prompt = Prompt((*self._prompt.segments, TokenSegment(token_ids)))

    def job(self, left: int) -> Job:
        """What the engine admits: the prompt, or after a cut what is left of everything.

        Args:
            left: Tokens that may still join the answer.
        """
        prompt = self._prompt
        if self._anew:
            prompt = Prompt((TokenSegment(self.view.token_ids.tolist()),))
        return Job(
            id=self.id,
            prompt=prompt,
            max_tokens=max(0, min(self.view.context_tokens - prompt.length, left)),
            adapters=self._spec.adapters,
            cache_scope=self._spec.cache_scope,
            chain=self._spec.chain.samplers,
        )

    @property
    def is_full(self) -> bool:
        """Whether what was chosen does not fit into the window any more."""
        return self.view.length > self.view.context_tokens

    def to_forget(self, chosen: int) -> tuple[int, int] | None:
        """The positions to cut so that what was chosen fits: half of what is not to be kept.

        Args:
            chosen: Tokens that the engine was not fed yet, the last of the sequence.

        Returns:
            Start and stop; None if too much is to be kept.
        """
        fed = self.view.length - chosen
        wanted = self._spec.options.num_keep
        whole = self.view.prompt_tokens
        keep = kept_tokens(self.view.tokenizer, wanted, whole if wanted < 0 else fed, fed)
        keep = max(0, min(keep, self.view.context_tokens - LEAST_MOVING))
        stop = keep + max(chosen, (fed - keep) // 2)
        return (keep, stop) if stop <= fed else None

    def forget(self, start: int, stop: int) -> None:
        """These positions were cut."""
        self.view.cut(start, stop)
        self._anew = True

    def renew(self) -> None:
        """The engine gives it up, and will admit all of it again."""
        self._anew = True
        self.row = None
