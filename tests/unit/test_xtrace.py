"""TRACE lines of legacy tables: read at once where they have the usual shape, else by attribute."""

from __future__ import annotations

import struct

import pytest

from lab.kernel.netlink import attribute
from lab.observe import xtrace
from lab.observe.nftrace import Headers
from lab.observe.xtrace import Line, Traced
from lab.traffic import packets

TAG = packets.tag(7, "reply", 1)
PREFIX = b"TRACE: mangle:cali-FORWARD:rule:3 \0"
LINE = Line("forward", "mangle", "cali-FORWARD", "rule", 3, 0)
TIME = attribute(3, bytes(16))
USER = attribute(11, bytes(4)) + attribute(14, bytes(4))


def logged(*parts: bytes, prefix: bytes = PREFIX) -> bytes:
    """Put a log message together in the kernel's order."""
    head = attribute(1, struct.pack("!HBB", 0x800, 2, 0)) + attribute(10, prefix)
    body = struct.pack("!BBH", 2, 0, 0) + head + b"".join(parts)
    return struct.pack("=IHHII", 16 + len(body), 0x400, 0, 0, 0) + body


def packet(source: str = "10.0.0.1", destination: str = "192.0.2.7", payload: bytes = TAG) -> bytes:
    """Make the last attribute of a message, which holds the packet."""
    content = packets.udp(source, destination, 20007, 80, payload)
    return struct.pack("=HH", 4 + len(content), 9) + content


def decoded(*blocks: bytes) -> list[Traced]:
    """Read messages, each received by itself."""
    return list(xtrace.decode_all(blocks))


def mark(word: int) -> bytes:
    """Pack a packet mark."""
    return attribute(2, struct.pack("!I", word))


@pytest.mark.parametrize("before", [b"", TIME, USER, attribute(4, bytes(4)) + TIME])
@pytest.mark.parametrize("word", [0, 0x40, 0x14000300, 0x0900_4500])
@pytest.mark.parametrize("addresses", [("10.0.0.1", "192.0.2.7"), ("fd00::1", "2001:db8::7")])
def test_the_usual_shape_is_read_as_any_other(
    addresses: tuple[str, str], word: int, before: bytes
) -> None:
    """Whatever stands before the packet, and whatever other attribute the mark looks like.

    An attribute that the lab does not know makes it another shape, and changes nothing.
    """
    marked = mark(word) if word else b""
    usual = logged(marked, before, packet(*addresses))
    other = logged(marked, before, packet(*addresses), attribute(40, bytes(4)))
    assert decoded(usual) == decoded(other)
    expected = LINE._replace(mark=word), Headers(TAG, *addresses, 20007, port=80)
    assert decoded(usual) == [expected]


def test_lines_of_one_kind_differ_by_packet_only() -> None:
    """What is read once is given back for every packet, whenever it came."""
    later = attribute(3, bytes(15) + b"\1")
    first, second = decoded(
        logged(mark(1), TIME, packet()), logged(mark(1), later, packet(destination="192.0.2.8"))
    )
    assert first[0] is second[0]
    assert first[1].destination != second[1].destination


def test_a_payload_may_look_like_attributes() -> None:
    """A time, and a packet, within the packet are none."""
    content = TAG + TIME[:4] + bytes(16) + packet()
    assert decoded(logged(USER, packet(payload=content))) == [
        (LINE, Headers(TAG, "10.0.0.1", "192.0.2.7", 20007, port=80))
    ]


def test_several_messages_in_one_block_are_all_read() -> None:
    """And what is no TRACE line, or of nobody's packet, is passed over."""
    one = logged(mark(5), TIME, packet())
    foreign = logged(packet(), prefix=b"dropped: \0")
    short = logged(attribute(9, b"E" + bytes(30)))
    assert [line.mark for line, _ in decoded(one + foreign + one, foreign, short)] == [5, 5]
