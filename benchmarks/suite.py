"""What the suite of all pairs takes, as a user starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[1]
COMMAND = ("pytest", "scenarios/test_pairs.py", "-m", "thorough or not thorough", "-n", "auto")
_PASSED = re.compile(r"(\d+) passed")


@dataclass(frozen=True, slots=True)
class Suite:
    """One run of a suite: its tests, and what they took.

    ``processor`` is the time of all its processes together, ``peak`` the memory of the largest.
    """

    tests: int
    seconds: float
    processor: float
    peak: int


def pairs(*options: str) -> Suite:
    """Run every pair once. Raises RuntimeError where a test fails: then there is no number."""
    started = time.perf_counter()
    process = subprocess.Popen(
        (sys.executable, "-m", *COMMAND, "-q", "-p", "no:cacheprovider", *options),
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = _PASSED.search(said)
    if process.returncode or not found:
        raise RuntimeError(f"{' '.join(COMMAND)} ended with {process.returncode}: {said[-2000:]}")
    seconds = time.perf_counter() - started
    return Suite(int(found[1]), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss)
