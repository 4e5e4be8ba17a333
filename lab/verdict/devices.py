"""One device under two names: how the pods' begin depends on the software of a run [pure]."""

from __future__ import annotations

from dataclasses import replace

from lab.record import Event, FlowRun, Routed
from lab.scenario import Experiment
from lab.topology import library


def renamed(flow: FlowRun, was: Experiment, now: Experiment) -> FlowRun:
    """Return a flow of one experiment with its devices named as in another."""
    if was.pod_prefix == now.pod_prefix:
        return flow
    names = dict(zip(_devices(was), _devices(now), strict=True))
    lines = tuple(
        replace(line, events=tuple(_renamed(event, names) for event in line.events))
        for line in flow.timelines
    )
    return replace(flow, timelines=lines)


def _devices(experiment: Experiment) -> list[str]:
    topology = library.find(experiment.topology, experiment.pod_prefix)
    return [link.left.name for link in topology.links]


def _renamed(event: Event, names: dict[str, str]) -> Event:
    if not isinstance(event, Routed):
        return event
    return replace(event, device=names.get(event.device, event.device))
