"""What the suite of all pairs takes, as a user starts it."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab.cases import entries, scenarios
from lab.order import representative
from lab.order.alone import by_itself
from lab.pairs import current
from lab.pairs import pairs as every_pair
from lab.scenario import Experiment

_ROOT = Path(__file__).parents[1]
COMMAND = ("pytest", "scenarios/test_pairs.py", "-n", "auto")
_PR_SET_CHILD_SUBREAPER = 36
_PASSED = re.compile(r"(\d+) passed")


@dataclass(frozen=True, slots=True)
class Suite:
    """One run of a suite: its tests, the experiments that were run for them, and what they took.

    ``processor`` is the time of all its processes together, ``peak`` the memory of the largest.
    """

    tests: int
    experiments: int
    seconds: float
    processor: float
    peak: int


def pairs(*options: str) -> Suite:
    """Run every pair once. Raises RuntimeError where a test fails: then there is no number."""
    # Workers of workers become children of this process when theirs end: they count as well.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, started = _processor(), time.perf_counter()
    done = subprocess.run(
        (sys.executable, "-m", *COMMAND, "-q", "-p", "no:cacheprovider", *options),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    found = _PASSED.search(done.stdout)
    if done.returncode or not found:
        said = (done.stdout + done.stderr)[-2000:]
        raise RuntimeError(f"{' '.join(COMMAND)} ended with {done.returncode}: {said}")
    with suppress(ChildProcessError):
        while True:
            os.wait()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return Suite(int(found[1]), experiments(), seconds, _processor() - before, peak)


def experiments() -> int:
    """Count what is run for all pairs: of orders and variants that are the same to the kernel, one.

    Each software alone is run once beside that, in each family and variant.
    """
    ran: set[Experiment] = set()
    for pair in every_pair(current(entries())):
        for scenario in scenarios(*pair):
            for together in (e for e in scenario.experiments() if not e.alone):
                alone = (by_itself(together, one) for one in together.software)
                ran |= {representative(together), *alone}
    return len(ran)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
