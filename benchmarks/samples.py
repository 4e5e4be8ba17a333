"""Repeated measurements and how they are told: median and range."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """Measured values of one thing, in the order in which they were taken."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the value in the middle."""
        return statistics.median(self.values)

    def first_tenth(self) -> Sample:
        """Return the first tenth of the values, at least one."""
        return Sample(self.values[: max(1, len(self.values) // 10)])

    def last_tenth(self) -> Sample:
        """Return the last tenth of the values, at least one."""
        return Sample(self.values[-max(1, len(self.values) // 10) :])

    def text(self, unit: str = "") -> str:
        """Write ``median (min – max)``."""
        low, middle, high = (number(v) for v in (min(self.values), self.median, max(self.values)))
        return f"{middle}{unit} ({low} – {high})"


def number(value: float) -> str:
    """Write three significant digits, never an exponent."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{decimals}f}"


def milliseconds(seconds: Sequence[float]) -> Sample:
    """Return seconds as a sample of milliseconds."""
    return Sample(tuple(s * 1000 for s in seconds))


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds an action takes on the wall clock."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
