"""nft's listing of rules that iptables-nft made."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Subject

_OPAQUE = re.compile(r'xt target "?(?:CONN)?MARK')


def xt_listing(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Warn that nft misprints masked CONNMARK rules of iptables-nft.

    ``nft list ruleset`` prints ``CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80`` as ``meta
    mark set ct mark and 0x80``. The kernel runs it masked; the listing, loaded again, becomes the
    rule that erases all other bits.

    Wrong::

        table ip mangle {
          chain PREROUTING {
            type filter hook prerouting priority mangle; policy accept;
            counter packets 0 bytes 0 meta mark set ct mark and 0x80
          }
        }

    Right::

        *mangle
        -A PREROUTING -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
        COMMIT

    Source: iptables extensions/libxt_CONNMARK.c, connmark_tg_xlate, which nft calls to print
    """
    del owners  # the rule in the kernel is right; only its listing is not
    for line in subject.of("nft"):
        copied = any(write.whole and write.copies for write in line.writes)
        if (copied and subject.printed_by_nft(line)) or _OPAQUE.search(line.text):
            yield Problem(
                line,
                "nft printed a rule of iptables-nft and left its masks out; loaded again, it "
                "erases all other bits",
                "keep and load such rules with iptables-save and iptables-restore",
            )
