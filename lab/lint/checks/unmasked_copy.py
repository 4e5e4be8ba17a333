"""A save or restore of the whole word."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Line, Subject
from lab.lint.wording import FIELD, copied_by_bits
from lab.marks import WORD
from lab.native.markwrite import MarkWrite


def unmasked_copy(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse to save or restore a mark without masks.

    ``--save-mark`` and ``--restore-mark`` without ``--nfmask`` and ``--ctmask`` (or ``--mask``),
    and ``meta mark set ct mark``, copy all 32 bits. From the second packet on a restore erases
    what others have set on the packet; a save carries their bits into the connection.

    Wrong::

        *mangle
        -A PREROUTING -j CONNMARK --restore-mark
        COMMIT

    Right::

        *mangle
        -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff0000 --ctmask 0xff0000
        -A OUTPUT -m mark --mark 0x0 -j CONNMARK --restore-mark
        COMMIT

    Source: kernel net/netfilter/xt_connmark.c, connmark_tg_shift
    """
    for line in subject.of("iptables", "nft", "tc"):
        for write in line.writes:
            if write.whole and _copies_all(line, write) and line.erased(write):
                yield Problem(
                    line,
                    f"all 32 bits of the {FIELD[write.field]} are overwritten by the "
                    f"{FIELD['ctmark' if write.field == 'mark' else 'mark']}",
                    _fix(line, write),
                    owners.of(write.field, line.erased(write), subject.owner),
                )


def _copies_all(line: Line, write: MarkWrite) -> bool:
    # A masked copy that nft stores whole is another check's: the author did think of masks.
    return bool(write.copies) and (
        line.kind == "iptables" or (write.copies, write.xor) == (WORD, 0)
    )


def _fix(line: Line, write: MarkWrite) -> str:
    if line.kind == "tc":
        return "restore it in mangle PREROUTING under a mask; tc's connmark has none"
    if line.kind == "iptables":
        return f"-j CONNMARK --{write.form} --nfmask M --ctmask M (M: the bits that are yours)"
    return copied_by_bits(write.field, 1 << 7)
