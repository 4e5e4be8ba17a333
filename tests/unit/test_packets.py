"""Packets as bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from lab.topology.hops import Hop
from lab.traffic import packets

PORTS = st.integers(0, 0xFFFF)
ADDRESSES = st.sampled_from([("10.0.0.1", "192.0.2.7"), ("fd00::1", "2001:db8::7")])


@given(ADDRESSES, PORTS, PORTS, st.binary(max_size=40))
def test_a_packet_is_what_scapy_builds(
    addresses: tuple[str, str], sport: int, dport: int, payload: bytes
) -> None:
    """Byte for byte, checksum included, whatever port and payload were filled in."""
    source, destination = addresses
    network = IPv6 if ":" in source else IP
    built = network(src=source, dst=destination) / UDP(sport=sport, dport=dport) / payload
    assert packets.udp(source, destination, sport, dport, payload) == bytes(built)


def test_a_frame_carries_the_packet_over_its_first_hop() -> None:
    """From the device's own MAC address to the next one's."""
    hop = Hop("eth0", "02:00:00:00:00:01", "02:00:00:00:00:02")
    tag = packets.tag(7, "request", 1)
    read = Ether(packets.frame(hop, packets.udp("fd00::1", "fd00::2", 20007, 80, tag)))
    assert (read.src, read.dst, read.type) == (hop.source, hop.target, 0x86DD)
    assert packets.read_tag(bytes(read[UDP].payload)) == (7, "request", 1)
