"""The recorder: one nftables chain per point that notes each packet's mark and ctmark.

A packet is told from others by 12 bytes that no NAT changes: of TCP the sequence and
acknowledgement numbers, flags and window; of UDP the first payload bytes, a tag that begins with
``MAGIC``. Only such packets count; the kernel's own MLD reports carry garbage marks. A dynamic
set keeps every packet (nothing is lost however fast they come), and the rule's trace message puts
the reading in order with the rules under test.

Reading the ctmark switches connection tracking on, so it is read only where the rules under test
have switched it on already.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lab.kernel.netlink import Netfilter, attributes, each
from lab.points import CONNTRACK, FIRST, Point
from lab.traffic.packets import MAGIC


TABLE = "lab"
TAG_BYTES = 12
_GETSETELEM = (10 << 8) | 13
_INET = 1
_SIZE = 16384
_TRACKING_HOOKS = ("prerouting", "output")


@dataclass(frozen=True, slots=True)
class Note:
    """What the recorder holds of one packet at one point."""

    point: Point
    packet: bytes
    mark: int
    ctmark: int | None


def ruleset(points: tuple[Point, ...], tracked: bool) -> str:
    """Write the recorder's table for one namespace; ``tracked`` adds the ctmark."""
    chains = [_chain(number, point, tracked and _sees_conntrack(point))
              for number, point in enumerate(points)]
    return f"table inet {TABLE} {{\n{''.join(chains)}}}\n"


def name(number: int) -> str:
    """Name the set and the chain of the ``number``-th point."""
    return f"p{number}"


def _sees_conntrack(point: Point) -> bool:
    return point.hook not in _TRACKING_HOOKS or point.priority > CONNTRACK


def _chain(number: int, point: Point, ctmark: bool) -> str:
    own = name(number)
    key = "meta mark . ct mark" if ctmark else "meta mark"
    trace = "meta nftrace set 1 " if point.priority == FIRST else ""
    udp = f"meta l4proto udp @th,64,16 {MAGIC:#x}"
    bare = f"""
  meta l4proto tcp accept
  {udp} accept
""" if ctmark else ""
    return f"""
 set {own} {{ typeof @th,32,96 . {key}; size {_SIZE}; flags dynamic; }}
 chain {own} {{ type filter hook {point.hook} priority {point.priority};
  meta l4proto tcp {trace}add @{own} {{ @th,32,96 . {key} }} accept
  {udp} {trace}add @{own} {{ @th,64,96 . {key} }} accept
{bare} }}
"""


def read(socket: Netfilter, points: tuple[Point, ...]) -> Iterator[Note]:
    """Read everything the recorder noted in the namespace of ``socket``."""
    for number, point in enumerate(points):
        request = _named(1, TABLE) + _named(2, name(number))
        for block in socket.dump(_GETSETELEM, _INET, request):
            for element in each(block.get(3, b"")):
                yield _note(point, attributes(element))


def _named(kind: int, text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack("=HH", 4 + len(raw), kind) + raw + b"\0" * (-len(raw) % 4)


def _note(point: Point, element: dict[int, bytes]) -> Note:
    key = attributes(element[1])[1]
    mark = struct.unpack_from("=I", key, TAG_BYTES)[0]
    ctmark = struct.unpack_from("=I", key, TAG_BYTES + 4)[0] if len(key) > TAG_BYTES + 4 else None
    return Note(point, key[:TAG_BYTES], mark, ctmark)
