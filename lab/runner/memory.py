"""Runs that a worker remembers: those alone, with which others are compared, and the last ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from lab.order import representative
from lab.record import FlowRun, Run
from lab.scenario import Experiment
from lab.verdict.compare import compare
from lab.verdict.outcome import Verdict

_LAST = 32
"""Runs together that are remembered; runs alone are few, and all are."""


@dataclass(slots=True)
class Memory:
    """What was run, by experiment; ``make`` runs what is not remembered.

    Experiments that leave the kernel in the same state are run once.
    """

    make: Callable[[Experiment], Run]
    _alone: dict[Experiment, Run] = field(default_factory=dict, repr=False)
    _together: dict[Experiment, Run] = field(default_factory=dict, repr=False)
    _judged: tuple[list[tuple[FlowRun, ...]], tuple[Verdict, ...]] = field(
        default=([], ()), repr=False
    )

    def verdicts(
        self, experiments: Iterable[Experiment], each: bool = False
    ) -> tuple[Verdict, ...]:
        """Return the verdicts on experiments; what was seen last is not judged again."""
        runs = self.runs(experiments, each)
        seen = sorted((run.flows for run in runs), key=id)
        together = [run for run in runs if not run.experiment.alone]
        if len(together) != 1 or not all(seen):
            return tuple(compare(runs))
        if [*map(id, seen)] != [*map(id, self._judged[0])]:
            self._judged = seen, tuple(compare(runs))
        return _on(together[0].experiment, self._judged[1])

    def runs(self, experiments: Iterable[Experiment], each: bool = False) -> tuple[Run, ...]:
        """Return the runs of experiments, ``each`` its own. Raises what ``make`` raises."""
        return tuple(map(self._remembered if each else self._run, experiments))

    def _run(self, experiment: Experiment) -> Run:
        same = representative(experiment)
        run = self._remembered(same)
        if same == experiment:
            return run
        if run.refused:  # it tells of the order in which it was tried
            return self._remembered(experiment)
        return replace(run, experiment=experiment, ran_as=str(same))

    def _remembered(self, experiment: Experiment) -> Run:
        known = self._alone if experiment.alone else self._together
        if experiment not in known:
            known[experiment] = self.make(experiment)
        if len(self._together) > _LAST:
            del self._together[next(iter(self._together))]
        return known[experiment]


def _on(experiment: Experiment, verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return verdicts on a run as those on another experiment that has the same run."""
    order = experiment.order
    here = (
        replace(v, order=order, family=experiment.family, variant=experiment.variant)
        for v in verdicts
    )
    return tuple(sorted(here, key=lambda verdict: order.index(verdict.owner)))
