"""A mark that only the first packet of a connection gets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Line, Subject
from lab.marks import WORD

_DROPS = re.compile(r"(?:-j|--jump) (?:DROP|REJECT)\b|\b(?:drop|reject)\b")


def mark_in_nat(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse a mark set in nat that later packets need.

    The nat hooks see the first packet of a connection only (and none before connection tracking
    is in use). A mark set there and tested in another table, or by a policy rule, is missing from
    the second packet on. A mark that nat itself tests (as for masquerading), that another table
    restores, or by which packets are dropped (so that no connection comes to be), is right.

    Wrong::

        *nat
        -A PREROUTING -p udp --dport 53 -j MARK --set-xmark 0x100/0x100
        COMMIT
        *filter
        -A FORWARD -m mark --mark 0x100/0x100 -j ACCEPT
        COMMIT

    Right::

        *nat
        -A PREROUTING -p udp --dport 53 -j MARK --set-xmark 0x100/0x100
        -A POSTROUTING -m mark --mark 0x100/0x100 -j MASQUERADE
        COMMIT

    Source: kernel net/netfilter/nf_nat_core.c, nf_nat_inet_fn
    """
    del owners  # the rule fails its own author
    readers: dict[int, Line | None] = {}
    for line in subject.of("iptables", "nft"):
        for write in line.writes if _in_nat(subject, line) else ():
            bits = write.xor if write.whole and not write.copies else write.changes
            if write.field != "mark" or bits in (0, WORD):
                continue
            if bits not in readers:
                readers[bits] = _misses(subject, bits)
            if reader := readers[bits]:
                yield Problem(
                    line,
                    "only the first packet of a connection is marked, but "
                    f"{reader.file}:{reader.number} asks for the mark of every packet",
                    "set the mark in mangle, or save it to the connection and restore it in "
                    "mangle under a mask",
                )


def _in_nat(subject: Subject, line: Line) -> bool:
    bases = subject.bases_of(line)
    return bool(bases) and all(base.type == "nat" for base in bases)


def _misses(subject: Subject, bits: int) -> Line | None:
    """Return who asks for bits that only nat sets, and not to drop by them."""
    for other in subject.of("iptables", "nft"):
        writes = any(w.field == "mark" and w.changes & bits for w in other.writes)
        if writes and not _in_nat(subject, other):
            return None
    readers = [other for other in subject.of("iptables", "nft", "policy") if _reads(other, bits)]
    if any(_in_nat(subject, other) for other in readers):
        return None
    return next((other for other in readers if not _DROPS.search(other.bare)), None)


def _reads(line: Line, bits: int) -> bool:
    marks = [test.mark for test in line.tests if test.field == "mark"]
    return any(m.value == bits if m.mask == WORD else m.mask & bits for m in marks)
