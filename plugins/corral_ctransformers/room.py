"""How many tokens a step may feed, so that its results fit into the library's buffers.

For the architectures of the magic `ggml` these are of 256 MiB, whatever the model's size. One
grows, but only with the tokens of a step times what the first token ever took; the others never.
What does not fit ends the process. Sizes here are upper bounds, from `models/llms/*.cc`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from corral_ctransformers.layouts import GGML, Layout
from corral_kernel.errors import LoadError

MOST_TOKENS = 64
_BUFFER_BYTES = 240 << 20  # of 256: some are left for what is not counted
_MOST_BYTES = 1 << 30  # to which we let it grow
_STEPS = (64, 32, 16, 8, 4, 2, 1)
_WIDTHS = 56  # numbers that a layer computes for a token, in widths of the hidden state
_LEAST_WIDTHS = 24  # of them at least
_LAYER_BYTES = 64 << 10  # the tensors themselves
_GROWTH = 1.1


@dataclass(frozen=True)
class Room:
    """What fits.

    Attributes:
        context_tokens: Positions that can be reached.
        step_tokens: Of one step at most.
        warm_up: Position at which the first token is fed, so that the buffer grows to what is
            needed; None: it need not grow.
    """

    context_tokens: int
    step_tokens: int
    warm_up: int | None = None


def find_room(layout: Layout, fields: dict[str, int], context_tokens: int) -> Room:
    """Find out what fits.

    Args:
        layout: The architecture's.
        fields: Of the file's head.
        context_tokens: Positions that are wanted.

    Raises:
        LoadError: If not even a few tokens do.
    """
    if GGML not in layout.magics:
        return Room(context_tokens, MOST_TOKENS)  # it measures what it needs
    sizes = Sizes(layout, fields)
    context = context_tokens
    while context:
        for step in _STEPS:
            if sizes.fits(min(step, context), context):
                return Room(context, min(step, context))
        for step in _STEPS[3:]:
            place = None if layout.scratch else sizes.growing(min(step, context), context)
            if place is not None:
                return Room(context, min(step, context), place)
        context = context * 7 // 8
    raise LoadError("the model is too large for the library's buffers")


def warm_up(room: Room, feed: Callable[[list[int], int], None]) -> None:
    """Feed the first tokens of a loaded model, as the room wants it."""
    feed([0], room.warm_up or 0)
    if room.warm_up is not None:
        feed([0] * room.step_tokens, 0)


class Sizes:
    """Bytes of a step's results, by its tokens and by the positions that there are then."""

    def __init__(self, layout: Layout, fields: dict[str, int]) -> None:
        self._layout = layout
        self._width, self._heads = fields["n_embd"], fields["n_head"]
        self._layers, self._vocab = fields["n_layer"], fields["n_vocab"]

    def fits(self, step: int, positions: int) -> bool:
        """Whether a step needs nothing beyond the buffers as they are."""
        return max(self._scratch(step, positions), self.total(step, positions)) <= _BUFFER_BYTES

    def growing(self, step: int, positions: int) -> int | None:
        """Where to feed the first token, so that a buffer for these steps comes of it."""
        needed = self.total(step, positions)
        if needed > _MOST_BYTES:
            return None
        place = 0
        while place < positions and self.total(1, place + 1) <= _BUFFER_BYTES:
            if _GROWTH * step * self._least(place + 1) >= needed:
                return place
            place += max(1, positions // 64)
        return None

    def total(self, step: int, positions: int) -> int:
        """Of the buffer that grows."""
        work = 4 * step * (4 * self._width + positions * self._heads) + (1 << 20)
        ends = 4 * step * (8 * self._width + self._vocab)
        layer = _LAYER_BYTES if self._layout.scratch else self._layer(step, positions)
        return self._layers * layer + ends + work

    def _scratch(self, step: int, positions: int) -> int:
        """Of each that does not."""
        return self._layer(step, positions) if self._layout.scratch else 0

    def _layer(self, step: int, positions: int) -> int:
        scores = 4 * self._layout.scores_kept * step * positions * self._heads
        values = self._layout.transposes * positions * self._width
        return 4 * _WIDTHS * step * self._width + scores + values + _LAYER_BYTES

    def _least(self, positions: int) -> int:
        """Of one token, at least."""
        values = self._layout.transposes * positions * self._width
        scores = 4 * positions * self._heads
        return self._layers * (4 * _LEAST_WIDTHS * self._width + values + scores)
