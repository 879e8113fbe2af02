"""Pairs of neighbours merged, the most wanted first: how llama and falcon cut texts into tokens."""

import heapq
from collections.abc import Callable, Sequence

Rank = Callable[[bytes, bytes], float | None]


def merge(symbols: Sequence[bytes], rank: Rank) -> list[bytes]:
    """Merge neighbours until no pair has a rank.

    Args:
        symbols: What to begin with.
        rank: Of a pair: the lowest is merged first, and the leftmost of equal ones; None: never.

    Returns:
        What remains, in order.
    """
    texts = list(symbols)
    last = len(texts)
    before = list(range(-1, last - 1))
    after = list(range(1, last + 1))  # `last`: nothing follows
    pairs: list[tuple[float, int, int, bytes]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right < last:
            order = rank(texts[left], texts[right])
            if order is not None:
                heapq.heappush(pairs, (order, left, right, texts[left] + texts[right]))

    for right in range(1, last):
        offer(right - 1, right)
    while pairs:
        _, left, right, joined = heapq.heappop(pairs)
        # One of both may have been merged since, into another or by another.
        if after[left] != right or texts[left] + texts[right] != joined or not texts[left]:
            continue
        texts[left], texts[right] = joined, b""
        after[left] = after[right]
        if after[right] < last:
            before[after[right]] = left
        offer(before[left], left)
        offer(left, after[left])
    return [text for text in texts if text]
