"""Prove on real network namespaces whether programs that set packet marks coexist.

>>> from lab import Pool, Scenario, compare, find, load
>>> scenario = Scenario((find("tailscale", load()), find("calico@3.20", load())))
>>> with Pool() as pool:
...     verdicts = compare(pool.run(scenario.experiments()))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.errors import LabError
    from lab.marks import Mark
    from lab.points import Point
    from lab.record import Run
    from lab.registry.find import find
    from lab.registry.loader import load
    from lab.registry.software import Software
    from lab.runner.pool import Pool
    from lab.scenario import Experiment, Scenario
    from lab.verdict.compare import compare
    from lab.verdict.outcome import Outcome, Verdict

__all__ = [
    "Experiment",
    "LabError",
    "Mark",
    "Outcome",
    "Point",
    "Pool",
    "Run",
    "Scenario",
    "Software",
    "Verdict",
    "compare",
    "find",
    "load",
]

_HOMES = {
    "Experiment": "lab.scenario",
    "LabError": "lab.errors",
    "Mark": "lab.marks",
    "Outcome": "lab.verdict.outcome",
    "Point": "lab.points",
    "Pool": "lab.runner.pool",
    "Run": "lab.record",
    "Scenario": "lab.scenario",
    "Software": "lab.registry.software",
    "Verdict": "lab.verdict.outcome",
    "compare": "lab.verdict.compare",
    "find": "lab.registry.find",
    "load": "lab.registry.loader",
}


def __getattr__(name: str) -> object:
    # Imported when first used: the command line starts in a fraction of the time.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
