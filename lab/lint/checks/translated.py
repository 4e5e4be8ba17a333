"""What iptables-translate makes of masked CONNMARK rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Line, Subject
from lab.lint.wording import copied_by_bits

_COPY = re.compile(r"meta mark set ct mark and 0x|ct mark set (?:meta )?mark and 0x")
_XOR = re.compile(
    r"(meta|ct) mark set \1 mark xor (?P<value>0x[0-9a-f]+) and (?P<kept>0x[0-9a-f]+)"
)


def translated(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse the rules that iptables-translate makes of CONNMARK.

    ``iptables-translate`` 1.8.9 turns ``CONNMARK --restore-mark --nfmask M --ctmask M`` into
    ``meta mark set ct mark and M``, which erases every other bit, and ``--set-xmark V/M`` into
    ``ct mark set ct mark xor V and ~M``, where nft computes ``V and ~M`` first. The words ``and``
    and ``xor``, for which people write ``&`` and ``^``, give it away.

    Wrong::

        nft add rule ip mangle PREROUTING counter meta mark set ct mark and 0x80
        nft add rule ip mangle OUTPUT counter ct mark set ct mark xor 0x16 and 0xffffffed

    Right::

        nft add rule ip mangle PREROUTING ct mark & 0x80 == 0x80 meta mark set meta mark | 0x80
        nft add rule ip mangle OUTPUT counter ct mark set ct mark and 0xffffffed xor 0x12

    Source: iptables 1.8.9 extensions/libxt_CONNMARK.c, connmark_tg_xlate
    """
    for line in subject.of("nft"):
        if subject.printed_by_nft(line) or not from_iptables_translate(line):
            continue
        if found := _XOR.search(line.bare):
            value, kept = int(found["value"], 16), int(found["kept"], 16)
            name = f"{found[1]} mark"
            yield Problem(
                line,
                f"nft computes {found['value']} and {found['kept']} first, so only "
                f"{value & kept:#x} is toggled and nothing is cleared",
                f"{name} set {name} & {kept:#x} ^ {value:#x}",
            )
        for write in line.writes:
            if write.whole and write.copies:
                yield Problem(
                    line,
                    "iptables-translate lost the mask of the target: nft stores the whole word, "
                    "and every bit outside the mask becomes zero",
                    copied_by_bits(write.field, write.copies),
                    owners.of(write.field, line.erased(write) & ~write.copies, subject.owner),
                )


def from_iptables_translate(line: Line) -> bool:
    """Tell whether a rule has the words that iptables-translate writes and people rarely do."""
    return bool(_COPY.search(line.bare) or _XOR.search(line.bare))
