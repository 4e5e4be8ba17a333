"""A connection that the kernel did not even refuse is tried once more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from small_runs import ALPHA, PING, run, timeline

from lab.record import Run
from lab.runner.sequence import swallowed
from lab.scenario import Scenario


def ping(protocol: Any, *directions: Any, cleared: bool = False) -> Run:
    """Record alpha's flow with a packet in each of these directions."""
    flow = replace(PING, protocol=protocol)
    party = (replace(ALPHA, flows=(flow,)),)
    alone = next(Scenario(party, families=("ipv4",)).experiments())
    seen = run(replace(alone, software=(ALPHA,)), cleared).flows[0]
    lines = tuple(replace(timeline(cleared), direction=way) for way in directions)
    return replace(run(alone, cleared), flows=(replace(seen, timelines=lines),))


def test_a_delivered_packet_of_tcp_without_any_answer_is_strange() -> None:
    """The kernel accepts it or resets the connection."""
    assert swallowed(ping("tcp", "request"))


@pytest.mark.parametrize(
    ("protocol", "directions", "cleared"),
    [
        ("tcp", ("request", "reply"), False),
        ("tcp", ("request",), True),
        ("tcp", (), False),
        ("udp", ("request",), False),
    ],
)
def test_other_flows_without_an_answer_are_not(
    protocol: str, directions: tuple[str, ...], cleared: bool
) -> None:
    """Answered, dropped on the way, or of a protocol that need not answer."""
    assert not swallowed(ping(protocol, *directions, cleared=cleared))
