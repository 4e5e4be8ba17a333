"""Verdicts put together the way a person wants to read them: by root cause, worst first [pure]."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from lab.record import Fate, Run
from lab.registry.software import Software
from lab.report.cases import Case, Tried, tried
from lab.report.names import Names
from lab.verdict.compare import compare
from lab.verdict.outcome import Outcome, Verdict

FlowKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Effect:
    """What an owner notices of a conflict; a greater ``severity`` is worse, 0 is nothing."""

    severity: int
    short: str
    text: str


UNHARMED = Effect(0, "marks only", "arrives as it does alone")


def effect(alone: Fate, together: Fate) -> Effect:
    """Compare two fates the way the sender would tell it."""
    if together.arrived < alone.arrived:
        some = f"{alone.arrived - together.arrived} of {alone.arrived} packets lost"
        return Effect(4, "lost", some if together.arrived else "lost")
    if together.answered < alone.answered:
        some = f"{alone.answered - together.answered} of {alone.answered} packets not answered"
        return Effect(3, "not answered", some if together.answered else "arrives, never answered")
    if together.arrived > alone.arrived:
        return Effect(3, "let through", f"let through to {together.seen_at}, dropped when alone")
    if together.seen_at != alone.seen_at:
        turned = f"delivered to {together.seen_at} instead of {alone.seen_at}"
        return Effect(3, "misrouted", turned)
    if together.seen_from != alone.seen_from:
        rewritten = f"seen from {together.seen_from} instead of {alone.seen_from}"
        return Effect(2, "other source", rewritten)
    return UNHARMED


@dataclass(frozen=True, slots=True)
class Conflict:
    """One root cause and every verdict that it explains; ``lead`` is the worst of them."""

    number: int
    outcome: Outcome
    lead: Verdict
    verdicts: tuple[Verdict, ...]

    def flows(self) -> tuple[FlowKey, ...]:
        """List the flows hit."""
        return tuple(dict.fromkeys((v.owner, v.flow) for v in self.verdicts))

    def cases(self, flow: FlowKey | None = None) -> set[Case]:
        """Return the cases in which it happens, to one flow or to any."""
        return {Case.of(v) for v in self.verdicts if flow in (None, (v.owner, v.flow))}


@dataclass(frozen=True, slots=True)
class Difference:
    """One owner's flow that differs, in the cases that share the same conflicts."""

    flow: FlowKey
    cases: frozenset[Case]
    conflicts: tuple[Conflict, ...]
    effect: Effect

    @property
    def outcome(self) -> Outcome:
        """Return the outcome of the worst conflict."""
        return self.conflicts[0].outcome


@dataclass(frozen=True, slots=True)
class Report:
    """Runs, their verdicts and what they come to."""

    runs: tuple[Run, ...]
    verdicts: tuple[Verdict, ...]
    software: tuple[Software, ...]
    tried: Tried
    conflicts: tuple[Conflict, ...]
    effects: dict[tuple[FlowKey, Case], Effect] = field(default_factory=dict)

    @property
    def names(self) -> Names:
        """Name the software."""
        return self.tried.names

    @property
    def alone(self) -> bool:
        """Tell whether one software was checked by itself."""
        return len(self.software) == 1

    def effect(self, flow: FlowKey, case: Case) -> Effect:
        """Return what a flow's owner notices in one case."""
        return self.effects.get((flow, case), UNHARMED)

    def worst_effect(self, flow: FlowKey, cases: Collection[Case]) -> Effect:
        """Return the worst effect over some cases, the first in the order of trying."""
        found = [self.effect(flow, case) for case in self.tried.cases if case in cases]
        return max(found, key=lambda e: e.severity, default=UNHARMED)

    def flows(self, *outcomes: Outcome) -> list[FlowKey]:
        """List the flows that were judged, with any of ``outcomes`` or at all."""
        return list(
            dict.fromkeys(
                (v.owner, v.flow) for v in self.verdicts if not outcomes or v.outcome in outcomes
            )
        )

    def differing(self) -> list[FlowKey]:
        """List the flows with a conflict."""
        return self.flows(*(o for o in Outcome if o.is_conflict))

    def undecided(self) -> list[FlowKey]:
        """List the flows without a conflict of which something could not be judged."""
        broken = self.differing()
        return [flow for flow in self.flows(Outcome.INCONCLUSIVE) if flow not in broken]

    def surviving(self) -> list[FlowKey]:
        """List the flows that are as alone, everywhere."""
        return [f for f in self.flows() if f not in self.differing() + self.undecided()]

    def differences(self) -> list[Difference]:
        """List what differs, one owner's flow at a time, worst first."""
        found = [d for flow in self.differing() + self.undecided() for d in self._split(flow)]
        return sorted(found, key=lambda d: (-d.effect.severity, d.conflicts[0].number))

    def _split(self, flow: FlowKey) -> list[Difference]:
        """Fold the cases of a flow that look the same to its owner into one difference."""
        by_case: dict[Case, list[Conflict]] = {}
        for conflict in self.conflicts:
            for case in conflict.cases(flow):
                by_case.setdefault(case, []).append(conflict)
        alike: dict[tuple[Outcome, str], list[Case]] = {}
        for case in (case for case in self.tried.cases if case in by_case):
            key = by_case[case][0].outcome, self.effect(flow, case).short
            alike.setdefault(key, []).append(case)
        return [self._difference(flow, cases, by_case) for cases in alike.values()]

    def _difference(
        self, flow: FlowKey, cases: list[Case], by_case: dict[Case, list[Conflict]]
    ) -> Difference:
        met = [c for c in self.conflicts if any(c in by_case[case] for case in cases)]
        return Difference(flow, frozenset(cases), tuple(met), self.worst_effect(flow, cases))


def report(runs: Sequence[Run], verdicts: Sequence[Verdict] | None = None) -> Report:
    """Judge runs and put the verdicts together."""
    judged = tuple(compare(runs) if verdicts is None else verdicts)
    together = [run for run in runs if not run.experiment.alone] or list(runs)
    software = together[0].experiment.beside if together else ()
    effects = _effects(runs)
    cases = tried(runs, Names(software))
    return Report(tuple(runs), judged, software, cases, tuple(_conflicts(judged, effects)), effects)


def _effects(runs: Sequence[Run]) -> dict[tuple[FlowKey, Case], Effect]:
    alone = {
        (run.experiment.family, run.experiment.variant, flow.owner, flow.name): flow.fate
        for run in runs
        if run.experiment.alone
        for flow in run.flows
    }
    found = {}
    for run in runs:
        for flow in run.flows:
            base = alone.get((run.experiment.family, run.experiment.variant, flow.owner, flow.name))
            if base is not None:
                found[(flow.owner, flow.name), Case.of(run)] = effect(base, flow.fate)
    return found


def _conflicts(
    verdicts: Sequence[Verdict], effects: dict[tuple[FlowKey, Case], Effect]
) -> list[Conflict]:
    def severity(verdict: Verdict) -> int:
        return effects.get(((verdict.owner, verdict.flow), Case.of(verdict)), UNHARMED).severity

    groups: dict[object, list[Verdict]] = {}
    for verdict in _notable(verdicts):
        groups.setdefault(_cause(verdict), []).append(verdict)
    ranking = list(Outcome)
    ordered = sorted(
        groups.values(),
        key=lambda group: (
            not group[0].outcome.is_conflict,
            -max(map(severity, group)),
            ranking.index(group[0].outcome),
            -len({(v.owner, v.flow) for v in group}),
        ),
    )
    return [
        Conflict(n, group[0].outcome, max(group, key=severity), tuple(group))
        for n, group in enumerate(ordered, 1)
    ]


def _notable(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Leave out survivors, and what could not be judged of a flow whose conflict is known."""
    broken = {(v.owner, v.flow, Case.of(v)) for v in verdicts if v.outcome.is_conflict}
    return [
        v
        for v in verdicts
        if v.outcome.is_conflict
        or (v.outcome is Outcome.INCONCLUSIVE and (v.owner, v.flow, Case.of(v)) not in broken)
    ]


def _cause(verdict: Verdict) -> object:
    """Tell verdicts of one root cause by the rule; a false match has it whoever's flow it is."""
    owner = "" if verdict.outcome is Outcome.FALSE_MATCH else verdict.owner
    if verdict.culprit is None:
        return verdict.outcome, owner, verdict.flow, verdict.reason
    rule = verdict.culprit.rule
    return verdict.outcome, owner, rule.software, rule.where, rule.written
