"""A value written over the whole word."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Subject
from lab.lint.wording import FIELD, masked_set
from lab.marks import WORD
from lab.traffic.flow import Field


def unmasked_set(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse to set all 32 bits of a mark where others keep theirs.

    ``--set-mark``, ``--set-xmark``, ``--tproxy-mark``, ``meta mark set`` and ``ct mark set``
    without a mask replace the whole word: every bit that another program has set is gone. So do
    ``skbedit mark`` at egress and xfrm's ``output-mark`` and ``set-mark``. A rule that compares the
    whole word first erases nothing and is not reported, nor is what acts on packets as they come
    in, whose mark is 0.

    Wrong::

        *mangle
        -A PREROUTING -i eth0 -j MARK --set-mark 0x40000
        COMMIT

    Right::

        *mangle
        -A PREROUTING -i eth0 -j MARK --set-xmark 0x40000/0x40000
        -A PREROUTING -i eth1 -m mark --mark 0x0 -j MARK --set-mark 0x40000
        COMMIT

    Source: iptables extensions/libxt_MARK.c; https://github.com/siderolabs/talos/issues/4836
    """
    masked: dict[tuple[str, Field], str] = {}
    for other in subject.lines:
        for test in other.tests:
            if test.mark.mask != WORD:
                told = f", although line {other.number} tests {test.mark} under a mask"
                masked.setdefault((other.file, test.field), told)
    for line in subject.of("iptables", "nft", "tc", "xfrm", "bpf"):
        for write in line.writes:
            if write.whole and not write.copies and line.erased(write):
                value = "a value" if write.opaque else f"{write.xor:#x}"
                beside = masked.get((line.file, write.field), "")
                yield Problem(
                    line,
                    f"{value} replaces all 32 bits of the {FIELD[write.field]}{beside}",
                    masked_set(line, write.field, write.xor),
                    owners.of(write.field, line.erased(write), subject.owner),
                )
