"""The recorder: one nftables chain per point that notes each packet's mark and ctmark.

A packet is told from others by 12 bytes that no NAT changes: of TCP the sequence and
acknowledgement numbers, flags and window; of UDP the first payload bytes, a tag that begins with
``MAGIC``. Only such packets count; the kernel's own MLD reports carry garbage marks. A dynamic
set keeps every packet (nothing is lost however fast they come), and the rule's trace message puts
the reading in order with the rules under test. What a tunnel carries is known by the same bytes,
further inside; the carrier is noted under them, with ``OUTER`` added. One set serves all points of
a namespace, since sets cost more than chains: ``numgen inc mod 1 offset N`` is the constant N, the
point's number.

Reading the ctmark switches connection tracking on, so it is read only where the rules under test
have switched it on already.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lab.kernel.netlink import Netfilter, attribute
from lab.points import COMES_IN, CONNTRACK, Point
from lab.traffic.flow import Family
from lab.traffic.packets import MAGIC, TAG_BYTES

TABLE = "lab"
_GETSETELEM = (10 << 8) | 13
_INET = 1
_PLAIN, _TRACKED = "marks", "ctmarks"
OUTER = 1 << 16
_NUMBERS: dict[tuple[str, int], int] = {}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a packet of the lab's is told: a match, and the bit at which its 12 bytes begin.

    ``layer`` is ``OUTER`` where these lie inside a tunnel's packet.
    """

    match: str
    at: int
    layer: int = 0


_PLAIN_KINDS = (
    Kind("meta l4proto tcp", 32),
    Kind(f"meta l4proto udp @th,64,16 {MAGIC:#x}", 64),
)
_KEY = "typeof numgen inc mod 1 . @th,32,96 . meta mark"
Noted = tuple[int, bytes, int, bool]
"""One packet at one point: the id() of the Point, the packet, its mark, whether a tunnel's."""


def frame(room: int) -> str:
    """Write the recorder's table: its sets, with ``room`` for so many notes in each, or none."""
    return _table(_sets(room) if room else "")


def chains(
    points: tuple[Point, ...], *, tracked: bool, noted: bool, carries: Family | None = None
) -> list[str]:
    """Write the recorder's chains for one namespace, each with a frame of some size.

    ``tracked`` adds the ctmark. Where nothing is ``noted`` the points only trace, which is enough
    where nobody has rules. ``carries`` is the family of the packets to look for inside tunnels.
    """
    kinds = _PLAIN_KINDS + (carried(carries) if carries else ())
    sets = _sets(1) if noted else ""
    starts = _starts(points)
    return [
        _table(sets + _chain(point, _set(point, tracked, noted), kinds, traces=point in starts))
        for point in points
    ]


def _starts(points: tuple[Point, ...]) -> set[Point]:
    """Return the points at which packets begin to be traced: the first of where they come in."""
    found: dict[str, Point] = {}
    for point in sorted(points, key=Point.sort_key):
        if point.hook in COMES_IN:
            found.setdefault(point.hook, point)
    return set(found.values())


def _table(content: str) -> str:
    return f"table inet {TABLE} {{{content}}}\n"


def number(point: Point) -> int:
    """Return the number of a point, alike in all namespaces: its chain is read by nft once."""
    return _NUMBERS.setdefault((point.hook, point.priority), len(_NUMBERS))


def room_for(packets: int, points: int) -> int:
    """Return how many notes to provide for; the kernel clears memory for as many.

    A power of two, so that few kinds of frame are ever read by nft.
    """
    return 1 << (packets * points).bit_length()


def _sets(room: int) -> str:
    return f"""
 set {_PLAIN} {{ {_KEY}; size {room}; flags dynamic; }}
 set {_TRACKED} {{ {_KEY} . ct mark; size {room}; flags dynamic; }}
"""


def name(point: Point) -> str:
    """Name the chain of a point."""
    return f"p{number(point)}"


def _set(point: Point, tracked: bool, noted: bool) -> str:
    if not noted:
        return ""
    sees = point.hook not in COMES_IN or point.priority > CONNTRACK
    return _TRACKED if tracked and sees else _PLAIN


def carried(family: Family) -> tuple[Kind, ...]:
    """List what to look for inside tunnels: Ethernet in UDP (vxlan, geneve), IP in IP, and GRE.

    Offsets count bits from the outer transport header.
    """
    four = family == "ipv4"
    ethertype = "0x0800" if four else "0x86dd"
    carriers = (
        (f"meta l4proto udp @th,224,16 {ethertype}", 240),
        (f"meta l4proto {4 if four else 41}", 0),
        (f"meta l4proto 47 @th,16,16 {ethertype}", 32),
    )
    size, protocol = (160, 72) if four else (320, 48)
    return tuple(
        kind
        for match, at in carriers
        for kind in (
            Kind(f"{match} @th,{at + size + 64},16 {MAGIC:#x}", at + size + 64, OUTER),
            Kind(f"{match} @th,{at + protocol},8 6", at + size + 32, OUTER),
        )
    )


def _chain(point: Point, into: str, kinds: tuple[Kind, ...], *, traces: bool) -> str:
    trace = "meta nftrace set 1 " if traces else ""
    words = "meta mark . ct mark" if into == _TRACKED else "meta mark"
    rules = [f"{k.match} {trace}{_add(into, number(point), k, words)}accept" for k in kinds]
    # A packet that connection tracking passed over has no ctmark: that rule breaks off.
    rules += [f"{k.match} accept" for k in kinds if into == _TRACKED]
    head = f"type filter hook {point.hook} priority {point.priority};"
    return "\n  ".join((f"\n chain {name(point)} {{ {head}", *rules)) + "\n }\n"


def _add(into: str, at: int, kind: Kind, words: str) -> str:
    if not into:
        return ""
    key = f"numgen inc mod 1 offset {at + kind.layer} . @th,{kind.at},96 . {words}"
    return f"add @{into} {{ {key} }} "


def read(
    socket: Netfilter, points: tuple[Point, ...], tracked: bool
) -> Iterator[tuple[Noted, int | None]]:
    """Read one set of what the recorder noted in the namespace of ``socket``.

    That of the ``tracked`` packets has their ctmarks. Raises OSError where an element is laid out
    otherwise: nf_tables_api.c, nf_tables_fill_setelem.
    """
    ids = {number(point): id(point) for point in points}
    # The element, NFTA_SET_ELEM_KEY and NFTA_DATA_VALUE have a header each.
    layout = struct.Struct(f"=H10xI{TAG_BYTES}s{2 if tracked else 1}I")
    wanted = _named(1, TABLE) + _named(2, _TRACKED if tracked else _PLAIN)
    for block in socket.dump(_GETSETELEM, _INET, wanted):
        elements = block.get(3, b"")
        if len(elements) % layout.size:
            raise OSError(errno.EPROTO, "the recorder's set holds more than its keys")
        for length, key, packet, mark, *ctmark in layout.iter_unpack(elements):
            if length != layout.size:
                raise OSError(errno.EPROTO, "the recorder's set holds more than its keys")
            outer, point = divmod(key, OUTER)
            yield (ids[point], packet, mark, bool(outer)), ctmark[0] if ctmark else None


def _named(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")
