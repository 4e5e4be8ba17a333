"""A mark for the routing that is set where the route is already chosen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Base, Kind, Line, Subject
from lab.native.marktest import MarkTest
from lab.native.markwrite import MarkWrite

_REROUTING = ("route", "mangle", "nat")
_READING: tuple[Kind, ...] = ("iptables", "nft", "tc", "xfrm", "bpf")


def output_without_reroute(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse a mark meant for a policy rule in an output chain that does not reroute.

    The node's own packets are routed before the output hook. Only chains of ``type route`` (and
    iptables' mangle OUTPUT) look the route up again when the mark has changed; in a ``type
    filter`` chain the packet leaves by the old route, bearing the new mark. Reported where a
    policy rule is given that wants the mark, or where nothing else in the rules reads it.

    Wrong::

        table inet vpn {
          chain mark {
            type filter hook output priority mangle;
            udp dport 4500 meta mark set meta mark & 0xffffff9f | 0x20
          }
        }

    Right::

        table inet vpn {
          chain mark {
            type route hook output priority mangle;
            udp dport 4500 meta mark set meta mark & 0xffffff9f | 0x20
          }
        }

    Source: https://github.com/openwrt/openwrt/issues/9955, kernel net/netfilter/nft_chain_route.c
    """
    del owners  # nobody else is hurt: the rule does not do what its author wants
    wanted = [test for rule in subject.of("policy") for test in rule.tests if test.equal]
    readers: dict[int, list[Line]] = {}
    for line in subject.of("iptables", "nft"):
        for write in line.writes if _too_late(subject.bases_of(line)) else ():
            if write.field != "mark" or not write.xor:
                continue
            if not wanted and write.changes not in readers:
                readers[write.changes] = _readers(subject, write.changes)
            others = [other for other in readers.get(write.changes, ()) if other is not line]
            if _any_wants(wanted, write) if wanted else not others:
                yield Problem(
                    line,
                    f"the route is chosen already: the packet gets {write.xor:#x} and keeps its "
                    "route",
                    "-t mangle -A OUTPUT …"
                    if line.kind == "iptables"
                    else "type route hook output priority mangle;",
                )


def _too_late(bases: frozenset[Base]) -> bool:
    out = [base.type for base in bases if base.hook == "output"]
    return bool(out) and len(out) == len(bases) and not set(out) & set(_REROUTING)


def _any_wants(policy: list[MarkTest], write: MarkWrite) -> bool:
    return any(t.mark.value and t.mark.matches(write.xor & t.mark.mask) for t in policy)


def _readers(subject: Subject, bits: int) -> list[Line]:
    """Return the first two rules that use some bits; one of them may be the writer itself."""
    return list(islice((o for o in subject.of(*_READING) if _reads(o, bits)), 2))


def _reads(line: Line, bits: int) -> bool:
    if any(w.field == "ctmark" and w.copies & bits for w in line.writes):
        return True
    if "meta mark" in line.bare and not line.tests and not line.writes:
        return True  # a map, a set or another use that is not read here
    return any(test.field == "mark" and test.mark.mask & bits for test in line.tests)
