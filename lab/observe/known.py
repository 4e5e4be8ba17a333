"""What was read of received bytes, kept: most of them come again and again [pure]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
MANY, SOME = 1 << 14, 1 << 11
"""How much to keep of what comes in every experiment, and of what comes in one only."""


class Known(dict[bytes, T], Generic[T]):
    """Values by the bytes they were read from; ``read`` reads those that are not known.

    It begins anew when there are more than ``most``. A look-up costs what one in a dict does.
    """

    def __init__(self, read: Callable[[bytes], T], most: int) -> None:
        super().__init__()
        self._read, self._most = read, most

    def __missing__(self, key: bytes) -> T:
        if len(self) > self._most:
            self.clear()
        found = self[key] = self._read(key)
        return found
