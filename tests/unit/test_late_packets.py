"""Packets that TCP sends by its timers are not taken for those of the flow that runs then."""

from __future__ import annotations

from typing import Literal

from lab.observe.nftrace import Headers
from lab.observe.passes import Pass, by_packet
from lab.runner.collect import Ran, sort_out
from lab.traffic import packets
from lab.traffic.flow import Flow
from lab.traffic.send import Call, Outcome


def ran(number: int, protocol: Literal["udp", "tcp"], *passes: Pass) -> Ran:
    """Make a flow that ran, and what was seen meanwhile on the node."""
    flow = Flow("f", "client", "10.0.0.2", 80, protocol=protocol, answered_by="pod-a")
    call = Call("x@1", flow, number, "10.0.0.1", "10.0.0.2")
    return Ran(call, Outcome(), {"node": by_packet([passes])})


def own(ran: Ran) -> list[Pass]:
    """List the passes that are a flow's."""
    return [one for mine in ran.passes["node"].values() for one in mine]


def tcp(source_port: int, port: int, packet: bytes = b"") -> Pass:
    """Make a TCP packet's pass."""
    identity = packet or bytes((source_port % 256, port % 256)) * 6
    return Pass(Headers(identity, "10.0.0.1", "10.0.0.2", source_port, port=port), "forward", 0)


def udp(number: int) -> Pass:
    """Make the pass of a flow's first datagram."""
    tag = packets.tag(number, "request", 0)
    return Pass(Headers(tag, "10.0.0.1", "10.0.0.2", 20000 + number), "forward", 0)


def test_a_late_packet_of_another_flow_is_none_of_this_ones() -> None:
    """Whichever way it goes, and whatever protocol this flow speaks."""
    mine, first, back = udp(2), tcp(20001, 80), tcp(80, 20001)
    flows, late = sort_out([ran(1, "tcp", tcp(20001, 80)), ran(2, "udp", mine, first, back)])
    assert own(flows[1]) == [mine]
    assert sorted(p.headers for p in late) == sorted((first.headers, back.headers))
    assert own(flows[0]) == [tcp(20001, 80)]


def test_a_connection_keeps_its_packets_behind_any_translation() -> None:
    """A port that is no flow's is one that nat has chosen."""
    mine = [tcp(20003, 80), tcp(61234, 80), tcp(80, 61234)]
    flows, late = sort_out([ran(1, "tcp"), ran(3, "tcp", *mine, tcp(20001, 80))])
    assert own(flows[1]) == mine
    assert late == [tcp(20001, 80)]


def test_masquerading_may_choose_the_port_of_another_flow() -> None:
    """The packet had the client's own port before; the answer gets it back."""
    packet, answer = b"one packet..", b"its answer.."
    mine = [
        tcp(20003, 80, packet),
        tcp(20001, 80, packet),
        tcp(80, 20001, answer),
        tcp(80, 20003, answer),
    ]
    flows, late = sort_out([ran(1, "tcp"), ran(3, "tcp", *mine)])
    assert own(flows[1]) == mine
    assert late == []
