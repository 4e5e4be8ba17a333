"""What nobody waits for is done beside the work, and by many at once when all of it is to end."""

from __future__ import annotations

import threading

from lab.kernel.later import all_done, later

TOGETHER = 20


def test_all_is_done_at_once() -> None:
    """Each of these waits for all the others."""
    meeting = threading.Barrier(TOGETHER, timeout=30)
    done: list[int] = []
    for _ in range(TOGETHER):
        later(lambda: done.append(meeting.wait()))
    all_done()
    assert sorted(done) == list(range(TOGETHER))


def test_nothing_to_do_is_done() -> None:
    """Whoever waits for it goes on."""
    all_done()
    all_done()
