"""What a worker remembers: every run alone, the last ones together."""

from __future__ import annotations

from dataclasses import replace

from small_runs import run, runs

from lab.record import Run
from lab.runner.memory import Memory
from lab.scenario import Experiment


def test_a_run_is_made_once_until_many_others_have_come() -> None:
    """Runs alone stay; of those together thousands would not fit."""
    made: list[Experiment] = []

    def make(experiment: Experiment) -> Run:
        made.append(experiment)
        return run(experiment, cleared=False)

    memory = Memory(make)
    known = [one.experiment for one in runs()]
    assert memory.runs(known) == memory.runs(known)
    assert made == known
    memory.runs(replace(known[-1], flows=(str(number),)) for number in range(100))
    del made[:]
    memory.runs(known)
    assert made == [experiment for experiment in known if not experiment.alone]
