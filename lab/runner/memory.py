"""Runs that a worker remembers: those alone, with which others are compared, and the last ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lab.record import Run
from lab.scenario import Experiment

_LAST = 32
"""Runs together that are remembered; runs alone are few, and all are."""


@dataclass(slots=True)
class Memory:
    """What was run, by experiment; ``make`` runs what is not remembered."""

    make: Callable[[Experiment], Run]
    _alone: dict[Experiment, Run] = field(default_factory=dict, repr=False)
    _together: dict[Experiment, Run] = field(default_factory=dict, repr=False)

    def runs(self, experiments: Iterable[Experiment]) -> tuple[Run, ...]:
        """Return the runs of experiments, each made once. Raises what ``make`` raises."""
        return tuple(map(self._run, experiments))

    def _run(self, experiment: Experiment) -> Run:
        known = self._alone if experiment.alone else self._together
        if experiment not in known:
            known[experiment] = self.make(experiment)
        if len(self._together) > _LAST:
            del self._together[next(iter(self._together))]
        return known[experiment]
