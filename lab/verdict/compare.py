"""Judge each owner's flows beside other software against the owner's run alone [pure].

Old runs can be judged again: nothing here touches the kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lab.record import Dropped, FlowRun, Reading, Routed, Run, Write
from lab.registry.software import Software
from lab.traffic.flow import Expectation, Flow
from lab.verdict.alone import readings, unmet_flow
from lab.verdict.outcome import Culprit, Outcome, Verdict
from lab.verdict.provenance import false_matches, in_time


def compare(runs: Iterable[Run]) -> list[Verdict]:
    """Judge every run of several software against the runs of each alone.

    A software alone is judged by what its own entry relies on; without a run alone nothing can be
    said of an owner beside others, and the verdict is INCONCLUSIVE.
    """
    everything = list(runs)
    alone = {
        _key(run, run.experiment.software[0].title): run
        for run in everything
        if run.experiment.alone
    }
    verdicts: list[Verdict] = []
    for run in everything:
        for software in run.experiment.software:
            base = alone.get(_key(run, software.title))
            verdicts.extend(_Judge(software, base, run).verdicts())
    if any(not run.experiment.alone for run in everything):
        verdicts = [v for v in verdicts if len(v.order) > 1 or v.outcome is not Outcome.SURVIVES]
    return verdicts


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
        fates = {"fate_alone": str(base.fate), "fate_together": str(seen.fate)}
        points = [replace(v, **fates) for v in self._points(flow, base, seen)]  # type: ignore[arg-type]
        strangers = [replace(v, **fates) for v in self._strangers(flow, seen)]  # type: ignore[arg-type]
        conflicts = [v for v in points if v.outcome.is_conflict] + strangers
        if not base.fate.same_as(seen.fate) and not conflicts:
            conflicts = [replace(self._fate(flow, base, seen), **fates)]  # type: ignore[arg-type]
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

    def _points(self, flow: Flow, base: FlowRun, seen: FlowRun) -> Iterator[Verdict]:
        for expectation in flow.expectations:
            yield self._point(flow, expectation, base, seen)

    def _point(self, flow: Flow, expectation: Expectation, base: FlowRun, seen: FlowRun) -> Verdict:
        mask = expectation.mark.mask
        before = _words(base, expectation)
        after = _words(seen, expectation)
        template = replace(
            self._say(Outcome.SURVIVES, flow, "equal to the run alone"),
            field=expectation.field,
            direction=expectation.direction,
            point=expectation.point,
            bits=mask,
            alone=next(iter(before), None),
            together=next(iter(after), None),
        )
        if not after:
            return replace(
                template,
                outcome=Outcome.INCONCLUSIVE,
                reason=f"no packet reached {expectation.point}: {seen.fate.end}",
            )
        if set(after) == set(before):
            return template
        wrong = next((word for word in after if word not in before), None)
        return self._changed(replace(template, together=wrong), expectation, seen, set(before))

    def _changed(
        self, template: Verdict, expectation: Expectation, seen: FlowRun, right: set[int | None]
    ) -> Verdict:
        culprit = self._culprit(expectation, seen, right)
        if culprit is not None:
            return replace(
                template,
                outcome=Outcome.CLOBBERED,
                culprit=culprit,
                reason=f"{culprit.rule.software} wrote bits that are not its own",
            )
        boundary = _erased(seen, expectation)
        if boundary:
            return replace(template, outcome=Outcome.ERASED, reason=boundary)
        return replace(
            template,
            outcome=Outcome.INCONCLUSIVE,
            reason=f"the bits differ at {expectation.point}, but no rule of another software "
            "was seen to write them",
        )

    def _culprit(
        self, expectation: Expectation, seen: FlowRun, right: set[int | None]
    ) -> Culprit | None:
        """Find the write on the first packet that went wrong; else an earlier one behind it."""
        earlier: list[Culprit] = []
        for line in in_time(seen.timelines):
            covered = line.direction == expectation.direction and expectation.covers(line.ordinal)
            if covered and _wrong(line.readings(), expectation, right):
                direct = self._before(line.events, expectation)
                if direct:
                    return direct[-1]
            earlier += self._foreign_writes(line.events, expectation)
        return earlier[0] if earlier else None

    def _before(self, events: tuple[object, ...], expectation: Expectation) -> list[Culprit]:
        until = [
            n
            for n, e in enumerate(events)
            if isinstance(e, Reading) and e.point == expectation.point
        ]
        return self._foreign_writes(events[: until[-1]] if until else events, expectation)

    def _foreign_writes(
        self, events: tuple[object, ...], expectation: Expectation
    ) -> list[Culprit]:
        found = []
        for event in events:
            if not isinstance(event, Write) or event.rule is None:
                continue
            rule = self.together.rules[event.rule]
            touched = (event.before ^ event.after) & expectation.mark.mask
            if rule.software != self.software.title and touched:
                found.append(
                    Culprit(rule, event.node, event.hook, event.priority, event.before, event.after)
                )
        return found

    def _strangers(self, flow: Flow, seen: FlowRun) -> Iterator[Verdict]:
        for culprit in false_matches(self.together, seen):
            yield replace(
                self._say(
                    Outcome.FALSE_MATCH,
                    flow,
                    f"{culprit.rule.software} took bits of another for its own",
                ),
                culprit=culprit,
                bits=culprit.tested,
                together=culprit.before & culprit.tested,
            )

    def _fate(self, flow: Flow, base: FlowRun, seen: FlowRun) -> Verdict:
        dropped = [
            (e, line)
            for line in in_time(seen.timelines)
            for e in line.events
            if isinstance(e, Dropped)
        ]
        turned = _turned(base, seen)
        if turned is not None and seen.fate.arrived < base.fate.arrived:
            was, now = turned
            verdict = self._say(
                Outcome.MISROUTED,
                flow,
                f"routed to {now.device or now.refusal} instead of {was.device or was.refusal}",
            )
            return replace(verdict, culprit=self._policy_culprit(now))
        if (
            not seen.fate.same_as(base.fate)
            and seen.fate.arrived == base.fate.arrived
            and seen.fate.answered == base.fate.answered
        ):
            return self._say(
                Outcome.REWRITTEN,
                flow,
                f"seen from {seen.fate.seen_from} instead of {base.fate.seen_from}",
            )
        verdict = self._say(Outcome.DROPPED, flow, seen.fate.end or "lost")
        if dropped and dropped[0][0].rule is not None:
            event = dropped[0][0]
            rule = self.together.rules[event.rule or 0]
            mark = next((r.mark for r in reversed(dropped[0][1].readings())), 0)
            return replace(
                verdict, culprit=Culprit(rule, event.node, event.hook, event.priority, mark, mark)
            )
        return verdict

    def _policy_culprit(self, now: Routed) -> Culprit | None:
        if now.policy is None:
            return None
        rule = self.together.rule(self.together.policy[now.policy].rule)
        return None if rule is None else Culprit(rule, now.node, now.hook, 0, now.mark, now.mark)


def _words(seen: FlowRun, expectation: Expectation) -> list[int | None]:
    """List the masked words read, each once, in the order in which they were read."""
    found: dict[int | None, None] = {}
    for reading in readings(seen, expectation):
        word = reading.word(expectation.field)
        found[None if word is None else word & expectation.mark.mask] = None
    return list(found)


def _wrong(read: tuple[Reading, ...], expectation: Expectation, right: set[int | None]) -> bool:
    for reading in read:
        word = reading.word(expectation.field)
        masked = None if word is None else word & expectation.mark.mask
        if reading.point == expectation.point and masked not in right:
            return True
    return False


def _erased(seen: FlowRun, expectation: Expectation) -> str:
    mask = expectation.mark.mask
    for line in seen.timelines:
        read = line.readings()
        for last, first in itertools.pairwise(read):
            if last.point.node != first.point.node and last.mark & mask and not first.mark & mask:
                return f"erased on the way from {last.point.node} to {first.point.node}"
    return ""


def _turned(base: FlowRun, seen: FlowRun) -> tuple[Routed, Routed] | None:
    for was_line, now_line in zip(in_time(base.timelines), in_time(seen.timelines), strict=False):
        was = [e for e in was_line.events if isinstance(e, Routed)]
        now = [e for e in now_line.events if isinstance(e, Routed)]
        for one, other in zip(was, now, strict=False):
            if (one.device, one.refusal) != (other.device, other.refusal):
                return one, other
    return None
