"""A masked copy between the marks in nft, which stores the whole word."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.checks.translated import from_iptables_translate
from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Line, Subject
from lab.lint.wording import FIELD, copied_by_bits
from lab.marks import WORD
from lab.native.markwrite import MarkWrite


def stored_whole(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse nft's masked copy between packet mark and conntrack mark.

    ``meta mark set ct mark & 0x80`` takes one bit of the conntrack mark and stores the whole word:
    the packet's other 31 bits become zero. ``ct mark set meta mark & 0x80`` does the same to the
    connection. CONNMARK's masks have no equal in one nft rule; it takes two for each bit.

    Wrong::

        table ip vpn {
          chain restore {
            type filter hook prerouting priority mangle;
            meta mark set ct mark & 0x80
          }
        }

    Right::

        table ip vpn {
          chain restore {
            type filter hook prerouting priority mangle;
            ct mark & 0x80 == 0 meta mark set meta mark & 0xffffff7f
            ct mark & 0x80 == 0x80 meta mark set meta mark | 0x80
          }
        }

    Source: https://github.com/aws/amazon-vpc-cni-k8s/issues/3872,
    https://github.com/tailscale/tailscale/issues/11803
    """
    for line in subject.of("nft"):
        if subject.printed_by_nft(line) or from_iptables_translate(line):
            continue
        for write in line.writes:
            if masked_copy(write) and line.erased(write):
                yield Problem(
                    line,
                    why(line, write),
                    copied_by_bits(write.field, meant(write)),
                    owners.of(write.field, line.erased(write) & ~meant(write), subject.owner),
                )


def masked_copy(write: MarkWrite) -> bool:
    """Tell whether a write takes some bits of the other mark and keeps none of its own."""
    return write.whole and bool(write.copies) and (write.copies, write.xor) != (WORD, 0)


def meant(write: MarkWrite) -> int:
    """Return the bits that the author meant: those copied, or those added where most are."""
    return write.copies if write.copies.bit_count() < 32 - 8 else write.xor or WORD & ~write.copies


def why(line: Line, write: MarkWrite) -> str:
    """Say which bits are lost."""
    lost = line.erased(write) & ~meant(write)
    verb = "become zero" if write.copies.bit_count() < 24 else "are overwritten"
    return (
        f"nft stores the whole word: the bits {lost:#010x} of the {FIELD[write.field]} {verb}, "
        "not only the ones meant"
    )
