"""What the numbers were measured on; never a machine's name or a path."""

from __future__ import annotations

import datetime
import os
import platform
import re
import time
from concurrent.futures import ProcessPoolExecutor

from lab.runner.sequence import environment

_VERSION = re.compile(r"\d+(?:\.\d+)+")


def describe() -> list[tuple[str, str]]:
    """List what a reader needs to compare the numbers with those of another machine."""
    tools = ", ".join(f"{tool} {_version(text)}" for tool, text in environment().tools)
    return [
        ("processors", f"{len(os.sched_getaffinity(0))}"),
        ("memory", f"{_memory()} GiB"),
        ("kernel", _version(platform.release())),
        ("Python", platform.python_version()),
        ("tools", tools),
        ("user", "root" if os.geteuid() == 0 else "an ordinary user, in a user namespace"),
        ("date", f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"),
    ]


def load() -> str:
    """Return the load average of the last minute: how busy the machine is with other things."""
    return f"{os.getloadavg()[0]:.1f}"


def speed() -> str:
    """Return how long a loop of a million additions takes: how fast the machine is just now.

    Others may share its processors, of which no load average tells.
    """
    taken = sorted(_additions() * 1000 for _ in range(21))
    return f"{taken[10]:.0f} ms (at best {taken[0]:.0f})"


def crowded() -> str:
    """Return the same with every processor busy with it at once: how much of its own each one is.

    Virtual ones may be two threads of one core.
    """
    processors = sorted(os.sched_getaffinity(0))
    with ProcessPoolExecutor(len(processors)) as pool:
        taken = [sorted(times) for times in pool.map(_kept_busy, processors)]
    return f"{max(times[len(times) // 2] for times in taken):.0f} ms"


def _kept_busy(processor: int) -> list[float]:
    os.sched_setaffinity(0, {processor})
    return [_additions() * 1000 for _ in range(31)]


def _additions() -> float:
    started = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number
    return time.perf_counter() - started


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _version(text: str) -> str:
    found = _VERSION.search(text)
    return found[0] if found else text
