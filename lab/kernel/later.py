"""What takes the kernel long and nobody waits for, done by a few threads beside the work."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import lru_cache

_THREADS, _MORE = 4, 60
Work = Callable[[], object]


def later(work: Work) -> None:
    """Have a thread do it; it must not raise, and not enter a namespace."""
    _waiting().put(work)


def all_done() -> None:
    """Wait until all of it is done, by many threads at once: most of it is waiting as well."""
    waiting = _waiting()
    _start(waiting, min(waiting.qsize(), _MORE))
    waiting.join()


@lru_cache(maxsize=1)
def _waiting() -> queue.Queue[Work]:
    waiting: queue.Queue[Work] = queue.Queue()
    _start(waiting, _THREADS)
    return waiting


def _start(waiting: queue.Queue[Work], threads: int) -> None:
    for _ in range(threads):
        threading.Thread(target=_do, args=(waiting,), name="later", daemon=True).start()


def _do(waiting: queue.Queue[Work]) -> None:
    while True:
        work = waiting.get()
        try:
            work()
        finally:
            waiting.task_done()
