"""Which packet a tunnel's packet carries, told from what else was on its way."""

from __future__ import annotations

from lab.observe.carried import told
from lab.observe.nftrace import Headers
from lab.observe.passes import Pass

FIRST, SECOND = b"first" + bytes(7), b"second" + bytes(6)
OUTER = Headers(b"", "192.0.2.1", "192.0.2.2", 40000, outer=True)


def inner(packet: bytes, hook: str) -> Pass:
    """Make the pass of a packet itself."""
    return Pass(Headers(packet, "10.0.0.1", "10.0.0.2", 20001), hook, 0)


def packets(passes: list[Pass]) -> list[bytes]:
    """List whose passes they are."""
    return [one.headers.packet for one in passes]


def test_the_only_packet_on_its_way_is_the_one_carried() -> None:
    """On every node, also where it was read in the tunnel only."""
    step = {
        "node": [inner(FIRST, "forward"), Pass(OUTER, "output", 0)],
        "lan": [Pass(OUTER, "forward", 0)],
    }
    assert {node: packets(found) for node, found in told(step, SECOND).items()} == {
        "node": [FIRST, FIRST],
        "lan": [FIRST],
    }


def test_a_packet_read_in_the_tunnel_only_is_the_one_that_was_sent() -> None:
    """What is sent by TCP has no tag: then it is not told."""
    assert packets(told({"node": [Pass(OUTER, "output", 0)]}, SECOND)["node"]) == [SECOND]
    assert packets(told({"node": [Pass(OUTER, "output", 0)]}, b"")["node"]) == []


def test_of_several_the_one_before_sets_out_and_the_one_behind_has_arrived() -> None:
    """As encapsulation and decapsulation follow each other on one node."""
    sends = [inner(FIRST, "postrouting"), Pass(OUTER, "output", 0), inner(SECOND, "postrouting")]
    takes = [inner(FIRST, "input"), Pass(OUTER, "prerouting", 0), inner(SECOND, "prerouting")]
    found = told({"node": sends, "lan": takes}, b"")
    assert packets(found["node"]) == [FIRST, FIRST, SECOND]
    assert packets(found["lan"]) == [FIRST, SECOND, SECOND]
