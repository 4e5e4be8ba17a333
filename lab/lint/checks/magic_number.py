"""A whole-word value that holds a bit on which somebody acts."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Line, Subject
from lab.marks import WORD


def magic_number(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse a whole-word mark that contains a bit on which another program acts.

    wg-quick's 51820 is 0xca6c: bit 15 is set, and kubelet drops whatever has bit 15. A mark that
    is a port number or a word in hexadecimal has some ten bits set; each is a claim.

    Wrong::

        32765:	not from all fwmark 0xca6c lookup 51820

    Right::

        32765:	not from all fwmark 0x20/0x60 lookup 180

    Source: https://github.com/kubernetes/kubernetes/issues/113659
    """
    for line in subject.of("iptables", "nft", "policy", "tc", "xfrm", "bpf"):
        for word in _words(line):
            if whose := owners.testing(word, subject.owner):
                yield Problem(
                    line,
                    f"{word:#x} contains bits on which others act: a packet with this mark is "
                    "taken for theirs",
                    "choose few bits and a mask; 'fwmark-lab bits' lists free ones",
                    whose,
                )


def _words(line: Line) -> list[int]:
    """List the words of several bits that a packet must bear, or is given, as a whole."""
    written = [w.xor for w in line.writes if w.field == "mark" and w.whole and not w.copies]
    tested = [t.mark.value for t in line.tests if t.field == "mark" and t.mark.mask == WORD]
    return sorted({word for word in (*written, *tested) if word.bit_count() > 1})
