"""A flow for entries that are written on the spot."""

from __future__ import annotations

from lab.marks import Mark
from lab.points import Point
from lab.traffic.flow import Expectation, Flow

FORWARDED = Flow(
    "f",
    "pod-a",
    "{{ lan.ip }}",
    7,
    answered_by="lan",
    expectations=(Expectation(Point("node", "forward", 1), "mark", Mark(0)),),
)
