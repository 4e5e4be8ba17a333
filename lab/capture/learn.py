"""What rules rely on, taken from runs of them alone [pure].

A flow that is answered relies on being answered, one that is lost on being dropped; every owned
bit relies on being what it is alone, at each point that was read. Nothing is said of a flow that
is answered in part, or of a point that shows a different word each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lab.marks import Mark
from lab.record import FlowRun, Run
from lab.registry.software import Software
from lab.traffic.flow import Direction, Expectation, Family, Flow, Packets
from lab.verdict.alone import unmet_flow

_DIRECTIONS: tuple[Direction, ...] = ("request", "reply")


def learned(software: Software, runs: Iterable[Run]) -> Software:
    """Return the software with the flows that its runs alone have shown to hold."""
    shown: dict[str, dict[Family, Flow]] = {}
    for run in runs:
        for flow in software.flows:
            seen = run.flow(software.title, flow.name)
            known = None if seen is None or run.lost else _flow(flow, seen)
            if known is not None:
                shown.setdefault(flow.name, {})[run.experiment.family] = known
    return replace(software, flows=tuple(f for each in shown.values() for f in _folded(each)))


def held(
    software: Software, runs: Iterable[Run]
) -> tuple[Software, tuple[tuple[Flow, Family, str], ...]]:
    """Return the software with the flows that hold on its rules alone, and those that do not.

    Each of these comes with the family and with what was expected and not seen.
    """
    kept: dict[str, list[Family]] = {}
    broken: list[tuple[Flow, Family, str]] = []
    for run in runs:
        family = run.experiment.family
        for flow in software.flows:
            seen = run.flow(software.title, flow.name)
            problem = None if seen is None else next(unmet_flow(flow, seen), "")
            if problem:
                broken.append((flow, family, problem))
            elif problem is not None:
                kept.setdefault(flow.name, []).append(family)
    flows = (
        replace(flow, families=tuple(kept[flow.name]))
        for flow in software.flows
        if flow.name in kept
    )
    return replace(software, flows=tuple(flows)), tuple(broken)


def _folded(by_family: dict[Family, Flow]) -> Iterator[Flow]:
    """Make one flow of those that are alike in both families, else one of each, of one name."""
    for flow in dict.fromkeys(by_family.values()):
        yield replace(flow, families=tuple(f for f, shown in by_family.items() if shown == flow))


def _flow(flow: Flow, seen: FlowRun) -> Flow | None:
    fate = seen.fate
    expectations = tuple(
        learnt
        for direction in _DIRECTIONS
        for wanted in flow.expectations
        for learnt in _expectations(replace(wanted, direction=direction), seen)
    )
    answered = fate.arrived == fate.answered == fate.sent
    if not expectations or not (answered or not fate.arrived):
        return None
    if answered:
        return replace(flow, expectations=expectations)
    return replace(flow, answered_by="", listens=flow.answered_by, expectations=expectations)


def _expectations(wanted: Expectation, seen: FlowRun) -> Iterator[Expectation]:
    words = _words(wanted, seen)
    groups: tuple[tuple[Packets, set[int | None]], ...] = (
        ("first", words[0] if words else set()),
        ("later", set().union(*words[1:])),
    )
    if len(words) > 1 and groups[0][1] == groups[1][1]:
        groups = (("all", groups[0][1]),)
    for packets, values in groups:
        (value, *others) = values or {None}
        if value is not None and not others:
            mark = Mark(value & wanted.mark.mask, wanted.mark.mask)
            yield replace(wanted, mark=mark, packets=packets)


def _words(wanted: Expectation, seen: FlowRun) -> list[set[int | None]]:
    """List, packet by packet of one direction, the masked words at a point."""
    found: dict[int, set[int | None]] = {}
    for line in seen.timelines:
        if line.direction == wanted.direction:
            for reading in line.readings():
                if reading.at(wanted):
                    word = reading.word(wanted.field)
                    masked = None if word is None else word & wanted.mark.mask
                    found.setdefault(line.ordinal, set()).add(masked)
    return [found[ordinal] for ordinal in sorted(found)]
