"""Which software is judged in pairs, and what comes of a pair beside what was expected [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, permutations

from lab.order.alone import by_itself
from lab.record import Run
from lab.registry.find import newest
from lab.registry.software import Software
from lab.scenario import Experiment, Scenario, Variant
from lab.traffic.flow import Family, Flow
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


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on one experiment, and what about them was not to be expected."""

    experiment: Experiment
    verdicts: tuple[Verdict, ...]
    unexpected: tuple[str, ...]


def judge(runs: Sequence[Run], together: Run, explanations: Sequence[Explanation]) -> Judged:
    """Judge all software of one run beside each other; ``runs`` are those of each alone."""
    verdicts = tuple(compare((*runs, together)))
    problems = unexpected(together.experiment, verdicts, explanations)
    return Judged(together.experiment, verdicts, problems)


def unexpected(
    experiment: Experiment, verdicts: Sequence[Verdict], explanations: Sequence[Explanation]
) -> tuple[str, ...]:
    """List what about the verdicts on an experiment was not to be expected."""
    problems = [str(v) for v in unpredicted(experiment, verdicts, explanations)]
    return (*dict.fromkeys(problems), *overdue(explanations, experiment, verdicts))


def unpredicted(
    experiment: Experiment, verdicts: Iterable[Verdict], explanations: Sequence[Explanation]
) -> Iterator[Verdict]:
    """Yield the verdicts that neither the predictor nor an explanation accounts for.

    Among three the bits of one may look like another's on a packet of the third.
    """
    for verdict in verdicts:
        if verdict.outcome is Outcome.SURVIVES or foreseen(verdict, experiment):
            continue
        if not any(one.explains(verdict) for one in explanations):
            yield verdict


def foreseen(verdict: Verdict, experiment: Experiment) -> bool:
    """Tell whether the predictor names a hazard that the verdict bears out."""
    return any(
        predict(one, other, experiment.family).covers(verdict)
        for one, other in permutations(experiment.software, 2)
        if one.title == verdict.owner or verdict.outcome is Outcome.FALSE_MATCH
    )


def experiments(
    chosen: Iterable[Pair], families: Sequence[Family], variants: Sequence[Variant]
) -> Iterator[Experiment]:
    """Yield what answers for every pair, each run alone once and before it is needed."""
    done: set[Experiment] = set()
    for pair in chosen:
        running = tuple(f for f in families if any(f in flow.families for flow in _flows(pair)))
        for together in Scenario(pair, families=running, variants=tuple(variants)).experiments():
            if together.alone:
                continue
            for alone in (by_itself(together, one) for one in together.beside):
                if alone not in done:
                    done.add(alone)
                    yield alone
            yield together


def _flows(pair: Pair) -> Iterator[Flow]:
    for software in pair:
        yield from software.flows


def judge_all(runs: Iterable[Run], explanations: Sequence[Explanation]) -> Iterator[Judged]:
    """Judge the runs of ``experiments`` as they come."""
    alone: dict[Experiment, Run] = {}
    for run in runs:
        if run.experiment.alone:
            alone[run.experiment] = run
        else:
            needed = [alone[by_itself(run.experiment, s)] for s in run.experiment.software]
            yield judge(needed, run, explanations)
