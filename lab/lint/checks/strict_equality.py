"""A comparison of the whole word."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Line, Subject
from lab.lint.wording import FIELD, masked_test
from lab.marks import WORD
from lab.native.marktest import MarkTest


def strict_equality(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Warn of comparing the whole word where others add their bits.

    ``--mark 0x1bd20``, ``meta mark 0x1bd20`` and tc's ``handle 0x1bd20 fw`` hold only while no one
    else has a bit set: a program that sets one of its own bits on the same packet makes the rule
    miss (or, inverted, match). Comparing with zero before a write is how a rule spares others, and
    is not reported.

    Wrong::

        *filter
        -A FORWARD -m mark --mark 0x1bd20 -j ACCEPT
        COMMIT

    Right::

        *filter
        -A FORWARD -m mark --mark 0x1bd20/0x1bd20 -j ACCEPT
        COMMIT

    Source: https://github.com/netbirdio/netbird/issues/6022,
    https://github.com/openwrt/packages/issues/4670
    """
    for line in subject.of("iptables", "nft", "tc", "bpf"):
        for test in dict.fromkeys(line.tests):
            if test.mark.mask == WORD and not _spares(line, test):
                yield Problem(
                    line,
                    f"{'misses' if test.equal else 'matches'} as soon as another program sets a "
                    f"bit of its own in the {FIELD[test.field]}",
                    _fix(line, test),
                    owners.of(test.field, WORD & ~test.mark.value, subject.owner),
                )


def _spares(line: Line, test: MarkTest) -> bool:
    return test.mark.value == 0 and any(write.field == test.field for write in line.writes)


def _fix(line: Line, test: MarkTest) -> str:
    if not test.mark.value:
        return "compare only the bits that are yours, e.g. 0x0/M"
    return masked_test(line, test.field, test.mark.value)
