"""What became of the packets of the flow that a reported conflict harms [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab.points import Point
from lab.record import Dropped, FlowRun, Reading, Routed, Run
from lab.traffic.flow import Direction, Field


def together(runs: Iterable[Run]) -> list[FlowRun]:
    """List the flows of the runs of both parties."""
    return [flow for run in runs if not run.experiment.alone for flow in run.flows]


def words(
    runs: Iterable[Run], at: str, field: Field = "mark", direction: Direction = "request"
) -> list[set[int | None]]:
    """List, packet by packet, the words that the runs of both parties showed at a point."""
    point = Point.parse(at)
    found: dict[int, set[int | None]] = {}
    for flow in together(runs):
        for line in flow.timelines:
            if line.direction == direction:
                read = {reading.word(field) for reading in line.at(point)}
                found.setdefault(line.ordinal, set()).update(read)
    return [found[ordinal] for ordinal in sorted(found)]


def preferences(runs: Iterable[Run]) -> set[tuple[int, str]]:
    """Collect which policy rule chose which device for the requests on the node."""
    return {
        (run.policy[event.policy].priority, event.device)
        for run in runs
        for event in _requests(run)
        if isinstance(event, Routed) and event.policy is not None
    }


def ends(runs: Iterable[Run]) -> set[tuple[str, str, str]]:
    """Collect node, hook and reason of every request that was lost."""
    return {
        (event.node, event.hook, event.reason)
        for run in runs
        for event in _requests(run)
        if isinstance(event, Dropped)
    }


def _requests(run: Run) -> Iterator[Dropped | Routed | Reading | object]:
    for flow in together((run,)):
        for line in flow.timelines:
            if line.direction == "request":
                yield from line.events
