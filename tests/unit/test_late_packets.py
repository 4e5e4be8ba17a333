"""Packets that TCP sends by its timers are not taken for those of the flow that runs then."""

from __future__ import annotations

from typing import Literal

from lab.observe.nftrace import Headers
from lab.observe.passes import Pass
from lab.runner.collect import Ran, sort_out
from lab.traffic import packets
from lab.traffic.flow import Flow
from lab.traffic.send import Call, Outcome


def ran(number: int, protocol: Literal["udp", "tcp"], *passes: Pass) -> Ran:
    """Make a flow that ran, and what was seen meanwhile on the node."""
    flow = Flow("f", "client", "10.0.0.2", 80, protocol=protocol, answered_by="pod-a")
    return Ran(Call("x@1", flow, number, "10.0.0.1", "10.0.0.2"), Outcome(), {"node": [*passes]})


def tcp(source_port: int, port: int) -> Pass:
    """Make a TCP packet's pass."""
    identity = bytes((source_port % 256, port % 256)) * 6
    return Pass(Headers(identity, "10.0.0.1", "10.0.0.2", source_port, port=port), "forward", 0)


def udp(number: int) -> Pass:
    """Make the pass of a flow's first datagram."""
    tag = packets.tag(number, "request", 0)
    return Pass(Headers(tag, "10.0.0.1", "10.0.0.2", 20000 + number), "forward", 0)


def test_a_late_packet_of_another_flow_is_none_of_this_ones() -> None:
    """Whichever way it goes, and whatever protocol this flow speaks."""
    mine, first, back = udp(2), tcp(20001, 80), tcp(80, 20001)
    own, late = sort_out([ran(1, "tcp", tcp(20001, 80)), ran(2, "udp", mine, first, back)])
    assert own[1].passes == {"node": [mine]}
    assert late == [first, back]
    assert own[0].passes == {"node": [tcp(20001, 80)]}


def test_a_connection_keeps_its_packets_behind_any_translation() -> None:
    """A port that is no flow's is one that nat has chosen."""
    mine = [tcp(20003, 80), tcp(61234, 80), tcp(80, 61234)]
    own, late = sort_out([ran(1, "tcp"), ran(3, "tcp", *mine, tcp(20001, 80))])
    assert own[1].passes == {"node": mine}
    assert late == [tcp(20001, 80)]
