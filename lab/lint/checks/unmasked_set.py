"""A value written over the whole word."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Line, Subject
from lab.lint.wording import FIELD, masked_set
from lab.marks import WORD
from lab.native.wordwrite import WordWrite
from lab.traffic.flow import Field


def unmasked_set(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse to set all 32 bits of a mark where others keep theirs.

    ``--set-mark``, ``--set-xmark``, ``--tproxy-mark``, ``meta mark set`` and ``ct mark set``
    without a mask replace the whole word: every bit that another program has set is gone. A rule
    that compares the whole word first erases nothing and is not reported.

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
    for line in subject.of("iptables", "nft"):
        for write in line.writes:
            if write.whole and not write.copied and subject_to_loss(line, write):
                yield Problem(
                    line,
                    _why(subject, line, write),
                    masked_set(line, write.field, write.xor),
                    owners.of(write.field, line.erased(write), subject.owner),
                )


def subject_to_loss(line: Line, write: WordWrite) -> bool:
    """Tell whether bits may be lost that the rule has not looked at."""
    return bool(line.erased(write))


def _why(subject: Subject, line: Line, write: WordWrite) -> str:
    beside = _masked_test(subject, line.file, write.field)
    value = "a value" if write.opaque else f"{write.xor:#x}"
    return f"{value} replaces all 32 bits of the {FIELD[write.field]}{beside}"


def _masked_test(subject: Subject, file: str, field: Field) -> str:
    """Say where the same file tests the mark bit by bit: the set destroys what is tested there."""
    for line in subject.lines:
        for test in line.tests:
            if line.file == file and test.field == field and test.mark.mask != WORD:
                return f", although line {line.number} tests {test.mark} under a mask"
    return ""
