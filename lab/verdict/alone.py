"""Whether an entry alone meets what it says its owner relies on."""

from __future__ import annotations

from collections.abc import Iterator

from lab.record import FlowRun, Reading, Run
from lab.registry.software import Software
from lab.traffic.flow import Expectation, Flow


def unmet(run: Run) -> tuple[str, ...]:
    """List every expectation and fate that the run does not show; empty if the entry holds.

    The run must be of one software alone.
    """
    return tuple(
        problem for software in run.experiment.software for problem in _problems(run, software)
    )


def _problems(run: Run, software: Software) -> Iterator[str]:
    for flow in software.flows:
        seen = run.flow(software.title, flow.name)
        if seen is not None:
            for problem in unmet_flow(flow, seen):
                yield f"{software.title} {flow.name}: {problem}"


def unmet_flow(flow: Flow, seen: FlowRun) -> Iterator[str]:
    """Yield what one flow does not meet."""
    yield from _fate(flow, seen)
    for expectation in flow.expectations:
        read = words(seen, expectation)
        if not read:
            yield f"nothing was read at {expectation}"
        for word in sorted(
            (w for w in read if w is None or not expectation.mark.matches(w)),
            key=lambda w: -1 if w is None else w,
        ):
            shown = "no conntrack entry" if word is None else f"{word:#x}"
            yield f"expected {expectation}, read {shown}"


def words(seen: FlowRun, expectation: Expectation) -> list[int | None]:
    """List the words read where an expectation looks, each once, in the order of reading."""
    priority = expectation.point.priority  # compares fast, and hardly another point has the same
    return list(
        dict.fromkeys(
            event.word(expectation.field)
            for line in seen.timelines
            if line.direction == expectation.direction and expectation.covers(line.ordinal)
            for event in line.events
            if isinstance(event, Reading)
            and event.point.priority == priority
            and event.at(expectation)
        )
    )


def _fate(flow: Flow, seen: FlowRun) -> Iterator[str]:
    fate = seen.fate
    if not flow.answered_by:
        if fate.arrived:
            yield f"expected to be dropped, but {fate}"
        return
    if fate.arrived != fate.sent or fate.answered != fate.sent:
        yield f"expected to be answered by {flow.answered_by}, but {fate}"
    elif seen.relied_from and fate.seen_from != seen.relied_from:
        yield f"expected to be seen from {seen.relied_from}, but {fate}"
