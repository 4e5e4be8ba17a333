"""The recorder: one nftables chain per point that notes each packet's mark and ctmark.

A packet is told from others by 12 bytes that no NAT changes: of TCP the sequence and
acknowledgement numbers, flags and window; of UDP the first payload bytes, a tag that begins with
``MAGIC``. Only such packets count; the kernel's own MLD reports carry garbage marks. A dynamic
set keeps every packet (nothing is lost however fast they come), and the rule's trace message puts
the reading in order with the rules under test. One set serves all points of a namespace, since
sets cost more than chains: ``numgen inc mod 1 offset N`` is the constant N, the point's number.

Reading the ctmark switches connection tracking on, so it is read only where the rules under test
have switched it on already.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lab.kernel.netlink import Netfilter, attribute, each
from lab.points import CONNTRACK, FIRST, Point
from lab.traffic.packets import MAGIC

TABLE = "lab"
TAG_BYTES = 12
_GETSETELEM = (10 << 8) | 13
_INET = 1
_SIZE = 65535
_TRACKING_HOOKS = ("prerouting", "output")
_PLAIN, _TRACKED = "marks", "ctmarks"
_UDP = f"meta l4proto udp @th,64,16 {MAGIC:#x}"


@dataclass(frozen=True, slots=True)
class Note:
    """What the recorder holds of one packet at one point."""

    point: Point
    packet: bytes
    mark: int
    ctmark: int | None


def ruleset(points: tuple[Point, ...], *, tracked: bool, noted: bool = True) -> str:
    """Write the recorder's table for one namespace; ``tracked`` adds the ctmark.

    Without ``noted`` the points only trace, which is enough where nobody has rules.
    """
    chains = [
        _chain(number, point, _set(point, tracked) if noted else "")
        for number, point in enumerate(points)
    ]
    key = "typeof numgen inc mod 1 . @th,32,96 . meta mark"
    sets = (
        f"""
 set {_PLAIN} {{ {key}; size {_SIZE}; flags dynamic; }}
 set {_TRACKED} {{ {key} . ct mark; size {_SIZE}; flags dynamic; }}
"""
        if noted
        else ""
    )
    return f"table inet {TABLE} {{{sets}{''.join(chains)}}}\n"


def name(number: int) -> str:
    """Name the chain of the ``number``-th point."""
    return f"p{number}"


def _set(point: Point, tracked: bool) -> str:
    sees = point.hook not in _TRACKING_HOOKS or point.priority > CONNTRACK
    return _TRACKED if tracked and sees else _PLAIN


def _chain(number: int, point: Point, into: str) -> str:
    trace = "meta nftrace set 1 " if point.priority == FIRST else ""
    words = "meta mark . ct mark" if into == _TRACKED else "meta mark"
    tcp = _add(into, number, f"@th,32,96 . {words}")
    udp = _add(into, number, f"@th,64,96 . {words}")
    # A packet that connection tracking passed over has no ctmark: that rule breaks off.
    bare = f"  meta l4proto tcp accept\n  {_UDP} accept\n" if into == _TRACKED else ""
    return f"""
 chain {name(number)} {{ type filter hook {point.hook} priority {point.priority};
  meta l4proto tcp {trace}{tcp}accept
  {_UDP} {trace}{udp}accept
{bare} }}
"""


def _add(into: str, number: int, key: str) -> str:
    return f"add @{into} {{ numgen inc mod 1 offset {number} . {key} }} " if into else ""


def read(socket: Netfilter, points: tuple[Point, ...]) -> Iterator[Note]:
    """Read everything the recorder noted in the namespace of ``socket``."""
    for into, words in ((_PLAIN, 1), (_TRACKED, 2)):
        layout = struct.Struct(f"=I{TAG_BYTES}s{words}I")
        for block in socket.dump(_GETSETELEM, _INET, _named(1, TABLE) + _named(2, into)):
            for element in each(block.get(3, b"")):
                # NFTA_SET_ELEM_KEY holds NFTA_DATA_VALUE: two headers, then the key.
                number, packet, mark, *ctmark = layout.unpack_from(element, 8)
                yield Note(points[number], packet, mark, ctmark[0] if ctmark else None)


def _named(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")
