"""Find a smallest list that still shows what a larger one shows [pure].

The way of Hypothesis' shrinker: delete from the back, in runs that grow while they succeed, until
nothing more can be left out one by one. Deterministic: the same list and test give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def minimize(items: Sequence[T], shows: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """Return a part of ``items``, in order, that ``shows`` and of which no one item can be spared.

    ``shows`` is asked about each candidate once at the most. Raises ValueError where not even all
    items show it: then it does not reproduce, and there is nothing to shrink.
    """
    asked: dict[tuple[int, ...], bool] = {}

    def keeps(indexes: tuple[int, ...]) -> bool:
        if indexes not in asked:
            asked[indexes] = shows(tuple(items[i] for i in indexes))
        return asked[indexes]

    kept = tuple(range(len(items)))
    if not keeps(kept):
        raise ValueError("it does not reproduce with everything in place")
    while True:
        smaller = _sweep(kept, keeps)
        if smaller == kept:
            return tuple(items[i] for i in kept)
        kept = smaller


def _sweep(kept: tuple[int, ...], keeps: Callable[[tuple[int, ...]], bool]) -> tuple[int, ...]:
    """Go once from the back to the front, doubling the run that is left out while it works."""
    end, size = len(kept), 1
    while end > 0:
        size = min(size, end)
        candidate = kept[: end - size] + kept[end:]
        if keeps(candidate):
            kept, end, size = candidate, end - size, size * 2
        elif size > 1:
            size = max(1, size // 4)
        else:
            end -= 1
    return kept
