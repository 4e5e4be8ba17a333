"""Which software is judged in pairs, and what comes of a pair beside what was expected [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby

from lab.record import Run
from lab.registry.find import newest
from lab.registry.software import Software
from lab.scenario import Experiment, Scenario
from lab.verdict.compare import compare
from lab.verdict.expected import Explanation, overdue
from lab.verdict.outcome import Outcome, Verdict
from lab.verdict.predict import predict

Pair = tuple[Software, Software]


def current(entries: Iterable[Software]) -> tuple[Software, ...]:
    """List the newest release of each software in its default mode; the public registry's first."""
    ordered = sorted(entries, key=lambda s: s.name)
    newest_ones = [newest(list(group)) for _, group in groupby(ordered, key=lambda s: s.name)]
    return tuple(sorted(newest_ones, key=lambda s: (s.registered is None, s.name)))


def pairs(software: Sequence[Software]) -> tuple[Pair, ...]:
    """List every two of them once, those of the public registry's rows first."""
    found = combinations(software, 2)
    return tuple(sorted(found, key=lambda p: p[0].registered is None or p[1].registered is None))


def by_itself(experiment: Experiment, owner: Software) -> Experiment:
    """Return the run alone of an owner that every combination with it can be compared with.

    It is read where the owner itself needs it, so it does not depend on who stands beside.
    """
    return replace(experiment, software=(owner,), beside=(owner,))


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on one experiment, and what about them was not to be expected."""

    experiment: Experiment
    verdicts: tuple[Verdict, ...]
    unexpected: tuple[str, ...]


def judge(runs: Sequence[Run], together: Run, explanations: Sequence[Explanation]) -> Judged:
    """Judge all software of one run beside each other; ``runs`` are those of each alone."""
    verdicts = tuple(v for v in compare((*runs, together)) if len(v.order) > 1)
    problems = [str(v) for v in unpredicted(together.experiment, verdicts, explanations)]
    return Judged(
        together.experiment,
        verdicts,
        (*dict.fromkeys(problems), *overdue(explanations, together.experiment, verdicts)),
    )


def unpredicted(
    experiment: Experiment, verdicts: Iterable[Verdict], explanations: Sequence[Explanation]
) -> Iterator[Verdict]:
    """Yield the verdicts that neither the predictor nor an explanation accounts for."""
    by_title = {s.title: s for s in experiment.software}
    for verdict in verdicts:
        if verdict.outcome is Outcome.SURVIVES:
            continue
        owner = by_title[verdict.owner]
        foreseen = any(
            predict(owner, other, experiment.family).covers(verdict)
            for other in experiment.software
            if other is not owner
        )
        if not foreseen and not any(one.explains(verdict) for one in explanations):
            yield verdict


def shared_by_default(scenario: Scenario) -> tuple[Experiment, ...]:
    """List the runs of a scenario in one order: each software by itself, then all together."""
    together = [e for e in scenario.experiments() if not e.alone]
    return tuple(
        one for e in together for one in (*(by_itself(e, s) for s in scenario.software), e)
    )
