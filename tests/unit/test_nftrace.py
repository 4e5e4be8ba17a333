"""Trace messages: read at once where they have the usual shape, else by attribute."""

from __future__ import annotations

import struct

import pytest

from lab.kernel.netlink import attribute
from lab.observe import nftrace
from lab.observe.nftrace import Headers, Traced
from lab.traffic import packets

TAG = packets.tag(7, "reply", 1)
FAMILY, KIND, IDENTITY = 15, 4, 6


def word(kind: int, number: int) -> bytes:
    """Pack an attribute that holds a number."""
    return attribute(kind, struct.pack("!I", number))


def rule(mark: int = 0, handle: int = 9) -> bytes:
    """Pack what every message of a rule has, up to the packet's mark."""
    verdict = attribute(5, word(1, 1))
    names = attribute(2, b"FORWARD\0") + attribute(1, b"mangle\0")
    return (
        names
        + attribute(3, struct.pack("!Q", handle))
        + verdict
        + (word(14, mark) if mark else b"")
    )


def payload(*parts: bytes, identity: int = 77, first: bytes = b"") -> bytes:
    """Put a message together in the kernel's order; ``first`` comes before everything."""
    head = word(FAMILY, 2) + word(KIND, 3) + word(IDENTITY, identity)
    return bytes(4) + first + head + b"".join(parts)


def headers(packet: bytes, size: int, link: bool = True) -> bytes:
    """Pack devices and the headers of a packet; one from here has none of the link layer."""
    parts = attribute(8, packet[:size]) + attribute(9, packet[size : size + 20])
    hardware = attribute(7, bytes(14)) if link else b""
    return word(10, 3) + word(11, 1) + word(12, 4) + word(13, 1) + parts + hardware


def decoded(*payloads: bytes) -> list[Traced]:
    """Read messages, each received by itself."""
    blocks = [struct.pack("=IHHII", 16 + len(p), 0xA11, 0, 0, 0) + p for p in payloads]
    return list(nftrace.decode_all(blocks))


TRACKED = word(21, 2) + attribute(19, b"\0") + word(18, 7) + word(20, 0x19E)


@pytest.mark.parametrize("tracked", [b"", word(21, 1), TRACKED])
@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize("addresses", [("10.0.0.1", "192.0.2.7"), ("fd00::1", "2001:db8::7")])
def test_the_usual_shape_is_read_as_any_other(
    addresses: tuple[str, str], link: bool, tracked: bytes
) -> None:
    """An attribute that the lab does not know makes it another shape, and changes nothing."""
    packet = packets.udp(*addresses, 20007, 80, TAG)
    size = len(packet) - 20
    usual = payload(rule(0x40), headers(packet, size, link), tracked)
    other = payload(rule(0x40), headers(packet, size, link), tracked, first=word(40, 1))
    assert decoded(usual) == decoded(other)
    identity, message, found = decoded(usual)[0]
    assert identity == struct.pack("!I", 77)
    assert (message.table, message.chain, message.handle) == ("mangle", "FORWARD", 9)
    assert (message.mark, message.verdict, message.iif, message.oif) == (0x40, "accept", 3, 4)
    assert found == Headers(TAG, *addresses, 20007, port=80)


def test_messages_of_one_kind_differ_by_packet_only() -> None:
    """What is read once is given back for every packet, each with its own id and headers."""
    blank = [packets.udp("10.0.0.1", "10.0.0.2", port, 80, TAG) for port in (1, 2)]
    first, second = decoded(
        payload(rule(), headers(blank[0], 20)), payload(rule(), headers(blank[1], 20), identity=78)
    )
    assert first[1] is second[1]
    assert (first[0], first[2]) != (second[0], second[2])


def test_marks_and_handles_are_told_apart() -> None:
    """No message is given for another one that differs in any attribute."""
    (one, two, three) = decoded(payload(rule(1)), payload(rule(2)), payload(rule(1, handle=8)))
    assert [m.mark for _, m, _ in (one, two, three)] == [1, 2, 1]
    assert [m.handle for _, m, _ in (one, two, three)] == [9, 9, 8]
    assert one[2] is None


def test_several_messages_in_one_block_are_all_read() -> None:
    """And other kinds of messages are passed over."""
    one = payload(rule(5))
    message = struct.pack("=IHHII", 16 + len(one), 0xA11, 0, 0, 0) + one
    other = struct.pack("=IHHII", 20, 0xA00, 0, 0, 0) + bytes(4)
    assert [m.mark for _, m, _ in nftrace.decode_all([message + other + message, other])] == [5, 5]
