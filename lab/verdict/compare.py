"""Judge each owner's flows beside other software against the owner's run alone [pure].

Old runs can be judged again: nothing here touches the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lab.record import FlowRun, Run
from lab.registry.software import Software
from lab.traffic.flow import Direction, Expectation, Flow
from lab.verdict.alone import unmet_flow, words
from lab.verdict.culprit import erased, foreign_write, lost_with, overtaken
from lab.verdict.devices import renamed
from lab.verdict.fates import classify
from lab.verdict.outcome import Culprit, Outcome, Verdict
from lab.verdict.provenance import false_matches, refused_socket


def compare(runs: Iterable[Run]) -> list[Verdict]:
    """Judge every run of several software against the runs of each alone.

    Without a run alone nothing can be said of an owner beside others: INCONCLUSIVE. Runs of
    software alone are judged themselves, by what their entries rely on, only where there are no
    others.
    """
    everything = list(runs)
    alone = {
        _key(run, run.experiment.software[0].title): run
        for run in everything
        if run.experiment.alone
    }
    together = [run for run in everything if not run.experiment.alone]
    return [
        verdict
        for run in together or everything
        for software in run.experiment.software
        for verdict in _Judge(software, alone.get(_key(run, software.title)), run).verdicts()
    ]


def _key(run: Run, title: str) -> tuple[str, str, str]:
    return title, run.experiment.family, run.experiment.variant


@dataclass(frozen=True, slots=True)
class _Judge:
    software: Software
    alone: Run | None
    together: Run

    def verdicts(self) -> Iterator[Verdict]:
        for flow in self.software.flows:
            if self._runs(flow):
                yield from self._flow(flow)

    def _runs(self, flow: Flow) -> bool:
        experiment = self.together.experiment
        names = (flow.name, f"{self.software.name}/{flow.name}")
        wanted = not experiment.flows or any(name in experiment.flows for name in names)
        return wanted and experiment.family in flow.families

    def _say(self, outcome: Outcome, flow: Flow, reason: str) -> Verdict:
        experiment = self.together.experiment
        return Verdict(
            outcome,
            self.software.title,
            experiment.order,
            experiment.family,
            experiment.variant,
            flow.name,
            reason,
        )

    def _flow(self, flow: Flow) -> Iterator[Verdict]:
        obstacle = self._obstacle(flow)
        if obstacle:
            yield self._say(Outcome.INCONCLUSIVE, flow, obstacle)
            return
        base, seen = self._pair(flow)
        well = replace(
            self._say(Outcome.SURVIVES, flow, "equal to the run alone"),
            fate_alone=str(base.fate),
            fate_together=str(seen.fate),
        )
        points = [self._point(well, expected, base, seen) for expected in flow.expectations]
        strangers = list(self._strangers(well, flow, seen))
        conflicts = [v for v in points if v.outcome.is_conflict] + strangers
        if not base.fate.same_as(seen.fate, address=bool(base.relied_from)) and not conflicts:
            verdict = self._fate(well, base, seen)
            blamed = next((v.culprit for v in points if v.culprit is not None), None)
            conflicts = [replace(verdict, culprit=verdict.culprit or blamed)]
        # Beside a conflict, a point that could not be judged is its consequence.
        yield from conflicts or points

    def _obstacle(self, flow: Flow) -> str:
        if self.together.refused:
            return f"could not be installed together: {self.together.refused}"
        if self.alone is None:
            return "there is no run of it alone to compare with"
        if self.together.lost or self.alone.lost:
            return f"observation was lost: {(self.together.lost or self.alone.lost)[0]}"
        base = self.alone.flow(self.software.title, flow.name)
        if base is None or self.together.flow(self.software.title, flow.name) is None:
            return "the flow was not run"
        if not flow.expectations:
            return "the entry says of no point what its owner relies on"
        broken = next(unmet_flow(flow, base), "")
        return f"the entry alone does not hold: {broken}" if broken else ""

    def _pair(self, flow: Flow) -> tuple[FlowRun, FlowRun]:
        title = self.software.title
        base = None if self.alone is None else self.alone.flow(title, flow.name)
        seen = self.together.flow(title, flow.name)
        if base is None or seen is None:
            raise ValueError(f"{title} {flow.name} was not run")
        return base, seen

    def _point(
        self, well: Verdict, expectation: Expectation, base: FlowRun, seen: FlowRun
    ) -> Verdict:
        mask = expectation.mark.mask
        before = _masked(base, expectation)
        after = _masked(seen, expectation)
        template = replace(
            well,
            field=expectation.field,
            direction=expectation.direction,
            point=expectation.point,
            bits=mask,
            alone=next(iter(before), None),
            together=next(iter(after), None),
        )
        if not after:
            return self._unreached(template, expectation, seen, set(before))
        if set(after) == set(before):
            return template
        wrong = next((word for word in after if word not in before), None)
        return self._changed(
            replace(template, together=wrong), expectation, base, seen, set(before)
        )

    def _unreached(
        self, template: Verdict, expectation: Expectation, seen: FlowRun, right: set[int | None]
    ) -> Verdict:
        lost = lost_with(self.together, seen, expectation, self.software.title, right)
        if lost is not None:
            word, culprit = lost
            return replace(
                template,
                outcome=Outcome.CLOBBERED,
                together=word,
                culprit=culprit,
                reason=f"{culprit.rule.software} wrote bits that are not its own, and the packet "
                f"was lost before {expectation.point}",
            )
        return replace(
            template,
            outcome=Outcome.INCONCLUSIVE,
            reason=f"no packet reached {expectation.point}: {seen.fate.end}",
        )

    def _changed(
        self,
        template: Verdict,
        expectation: Expectation,
        base: FlowRun,
        seen: FlowRun,
        right: set[int | None],
    ) -> Verdict:
        title = self.software.title
        culprit = foreign_write(self.together, seen, expectation, title, right)
        if culprit is not None:
            return replace(
                template,
                outcome=Outcome.CLOBBERED,
                culprit=culprit,
                reason=f"{culprit.rule.software} wrote bits that are not its own",
            )
        boundary = erased(seen, expectation, right)
        if boundary:
            return replace(template, outcome=Outcome.ERASED, reason=boundary)
        template = replace(template, outcome=Outcome.INCONCLUSIVE)
        skipped = None
        if self.alone is not None:
            skipped = overtaken(self.alone, base, self.together, seen, expectation, title)
        if skipped is not None:
            why = f"{skipped.rule.software} took the packet before the owner's rule could mark it"
            return replace(template, culprit=skipped, reason=why)
        return replace(
            template,
            reason=f"the bits differ at {expectation.point}, but no rule of another software "
            "was seen to write them",
        )

    def _strangers(self, well: Verdict, flow: Flow, seen: FlowRun) -> Iterator[Verdict]:
        refused = refused_socket(self.together, flow, seen)
        found: Iterable[tuple[Culprit, Direction]] = (
            false_matches(self.together, seen) if refused is None else [(refused, "request")]
        )
        for culprit, direction in found:
            yield replace(
                well,
                outcome=Outcome.FALSE_MATCH,
                reason=f"{culprit.rule.software} took bits of another for its own",
                culprit=culprit,
                direction=direction,
                bits=culprit.tested,
                together=culprit.before & culprit.tested,
            )

    def _fate(self, well: Verdict, base: FlowRun, seen: FlowRun) -> Verdict:
        if self.alone is not None:
            base = renamed(base, self.alone.experiment, self.together.experiment)
        outcome, reason, culprit = classify(self.together, base, seen, self.software.title)
        return replace(well, outcome=outcome, reason=reason, culprit=culprit)


def _masked(seen: FlowRun, expectation: Expectation) -> list[int | None]:
    """List the masked words read, each once, in the order in which they were read."""
    mask = expectation.mark.mask
    read = words(seen, expectation)
    return list(dict.fromkeys(None if word is None else word & mask for word in read))
