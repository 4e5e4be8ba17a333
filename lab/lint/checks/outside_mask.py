"""Values that do not lie within their mask, and masks the wrong way round."""

from __future__ import annotations

from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Line, Subject
from lab.lint.wording import FIELD, NFT
from lab.marks import WORD, Mark


def value_outside_mask(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse a value with bits outside of its mask.

    ``--set-mark 0xf5/0x0f`` sets 0xf5, bits outside the mask included (it is listed as
    ``--set-xmark 0xf5/0xff``); ``--set-xmark`` toggles them. A test ``--mark 0x3/0x1`` never
    matches. A mask of zero (``--set-xmark 0x4000/0x0``) is ``--xor-mark`` and meant.

    Wrong::

        *mangle
        -A PREROUTING -j MARK --set-mark 0xf5/0x0f
        COMMIT

    Right::

        *mangle
        -A PREROUTING -j MARK --set-mark 0x05/0x0f
        -A POSTROUTING -j MARK --set-xmark 0x4000/0x0
        COMMIT

    Source: iptables extensions/libxt_MARK.c, mark_tg_print
    """
    for line in subject.of("iptables", "nft", "policy", "tc", "xfrm", "bpf"):
        for mark in _set(line):
            yield Problem(
                line,
                f"the bits {mark.value & ~mark.mask:#x} of {mark} are outside the mask and change "
                "as well",
                f"{Mark(mark.value & mark.mask, mark.mask)}, or a mask that covers the value",
                owners.of("mark", mark.value & ~mark.mask, subject.owner),
            )
        for test in line.tests:
            if test.mark.value & ~test.mark.mask:
                yield Problem(
                    line,
                    f"{test.mark} never matches: the value has bits outside the mask",
                    f"{Mark(test.mark.value & test.mark.mask, test.mark.mask)}",
                )


def _set(line: Line) -> list[Mark]:
    marks = [w.written for w in line.writes if w.form in ("set-mark", "set-xmark", "tproxy-mark")]
    return [m for m in marks if m is not None and m.mask and m.value & ~m.mask]


def inverse_mask(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse an nft write that keeps the bits it means to replace.

    ``meta mark set meta mark & 0x3f00 ^ 0x200`` keeps the field 0x3f00 and erases every other bit:
    the AND takes the inverse of the mask.

    Wrong::

        table inet firewall {
          chain mark {
            type filter hook prerouting priority -140;
            meta mark set meta mark & 0x00003f00 ^ 0x00000200
          }
        }

    Right::

        table inet firewall {
          chain mark {
            type filter hook prerouting priority -140;
            meta mark set meta mark & 0xffffc0ff ^ 0x00000200
          }
        }

    Source: https://github.com/firewalld/firewalld/issues/1564
    """
    for line in subject.of("nft"):
        for write in line.writes:
            if write.kept in (0, WORD) or not write.xor or write.xor & ~write.kept:
                continue
            name = NFT[write.field]
            yield Problem(
                line,
                f"every bit outside {write.kept:#x} of the {FIELD[write.field]} is erased, and the "
                "field itself is only toggled",
                f"{name} set {name} & {WORD & ~write.kept:#010x} | {write.xor:#x}",
                owners.of(write.field, WORD & ~write.kept, subject.owner),
            )
