"""What takes the kernel long and nobody waits for, done by a few threads beside the work."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import lru_cache

_THREADS = 4
Work = Callable[[], object]


def later(work: Work) -> None:
    """Have a thread do it; it must not raise, and not enter a namespace."""
    _waiting().put(work)


@lru_cache(maxsize=1)
def _waiting() -> queue.SimpleQueue[Work]:
    waiting: queue.SimpleQueue[Work] = queue.SimpleQueue()
    for number in range(_THREADS):
        threading.Thread(target=_do, args=(waiting,), name=f"later-{number}", daemon=True).start()
    return waiting


def _do(waiting: queue.SimpleQueue[Work]) -> None:
    while True:
        waiting.get()()
