"""From a conflict to the fewest rules and packets that still give the same verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from lab.errors import RuleRefused, UsageError
from lab.record import Routed, Run
from lab.registry.software import Software
from lab.scenario import Experiment, Scenario
from lab.shrink.minimize import minimize
from lab.shrink.units import Unit, only, units
from lab.verdict.compare import compare
from lab.verdict.outcome import Verdict

RunAll = Callable[[Iterable[Experiment]], Iterator[Run]]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest scenario found, its verdict, and how many rules there were and are.

    ``nodes`` are those that any packet of it touched, ``devices`` those by which one was routed,
    each with its node.
    """

    scenario: Scenario
    verdict: Verdict
    rules_before: int
    rules_after: int
    tried: int
    nodes: tuple[str, ...] = ()
    devices: tuple[tuple[str, str], ...] = ()


def shrink(scenario: Scenario, verdict: Verdict, run: RunAll, tell: Tell) -> Shrunk:
    """Leave out rules and packets while the verdict, its point and its culprit stay the same.

    ``run`` runs experiments, ``tell`` hears of progress. The order of installation, the family
    and the iptables variant are those of ``verdict``. Raises UsageError where the conflict does
    not show again.
    """
    base = _narrow(scenario, verdict)
    search = _Search(base, verdict, run, tell)
    everything = units(base.software)
    try:
        kept = minimize(everything, search.shows)
    except ValueError:
        raise UsageError(f"the conflict does not reproduce: {verdict}") from None
    smallest = search.scenario(kept)
    smallest = _fewer_packets(smallest, search)
    found = search.judge(smallest)
    if found is None:
        raise UsageError(f"the conflict does not reproduce: {verdict}")
    return Shrunk(
        smallest, found, len(everything), len(kept), search.tried, search.nodes(), search.devices()
    )


def _narrow(scenario: Scenario, verdict: Verdict) -> Scenario:
    by_title = {entry.title: entry for entry in scenario.software}
    ordered = tuple(_with_flow(by_title[title], verdict) for title in verdict.order)
    return replace(
        scenario,
        software=ordered,
        orders="given",
        families=(verdict.family,),
        variants=(verdict.variant,),
    )


def _with_flow(entry: Software, verdict: Verdict) -> Software:
    flows = [f for f in entry.flows if (entry.title, f.name) == (verdict.owner, verdict.flow)]
    return replace(entry, flows=tuple(flows))


class _Search:
    def __init__(self, base: Scenario, verdict: Verdict, run: RunAll, tell: Tell) -> None:
        self._base = base
        self._verdict = verdict
        self._run = run
        self._tell = tell
        self._runs: list[Run] = []
        self.tried = 0

    def nodes(self) -> tuple[str, ...]:
        """List the nodes that packets of the last candidate touched."""
        return tuple(
            dict.fromkeys(
                reading.point.node
                for run in self._runs
                for flow in run.flows
                for line in flow.timelines
                for reading in line.readings()
            )
        )

    def devices(self) -> tuple[tuple[str, str], ...]:
        """List the devices to which packets of the last candidate were routed."""
        return tuple(
            dict.fromkeys(
                (event.node, event.device)
                for run in self._runs
                for flow in run.flows
                for line in flow.timelines
                for event in line.events
                if isinstance(event, Routed) and event.device
            )
        )

    def scenario(self, kept: Iterable[Unit]) -> Scenario:
        return replace(self._base, software=only(self._base.software, kept))

    def shows(self, kept: tuple[Unit, ...]) -> bool:
        self._tell(f"{len(kept)} rules")
        return self.judge(self.scenario(kept)) is not None

    def judge(self, scenario: Scenario) -> Verdict | None:
        """Run one candidate; return its verdict if it is the one looked for."""
        self.tried += 1
        owner = next(s for s in scenario.software if s.title == self._verdict.owner)
        together, alone = _experiments(scenario, owner)
        try:
            self._runs = list(self._run((alone, together)))
            verdicts = compare(self._runs)
        except RuleRefused:
            return None
        return next((v for v in verdicts if _same(v, self._verdict)), None)


def _experiments(scenario: Scenario, owner: Software) -> tuple[Experiment, Experiment]:
    together = next(e for e in scenario.experiments() if len(e.software) == len(scenario.software))
    return together, replace(together, software=(owner,))


def _same(one: Verdict, other: Verdict) -> bool:
    return _signature(one) == _signature(other)


def _signature(verdict: Verdict) -> tuple[object, ...]:
    culprit = verdict.culprit
    blamed = None if culprit is None else (culprit.rule.file, culprit.rule.line, culprit.tested)
    return (
        verdict.outcome,
        verdict.owner,
        verdict.flow,
        verdict.point,
        verdict.alone,
        verdict.together,
        blamed,
        verdict.fate_alone == verdict.fate_together,
    )


def _fewer_packets(scenario: Scenario, search: _Search) -> Scenario:
    for count in (1, 2):
        fewer = replace(
            scenario,
            software=tuple(
                replace(s, flows=tuple(replace(f, count=count) for f in s.flows))
                for s in scenario.software
            ),
        )
        if search.judge(fewer) is not None:
            return fewer
    return scenario
