"""Rules written right, as a finding proposes them [pure]."""

from __future__ import annotations

from lab.lint.model import Line
from lab.marks import WORD, Mark
from lab.traffic.flow import Field

NFT = {"mark": "meta mark", "ctmark": "ct mark"}
TARGET = {"mark": "MARK", "ctmark": "CONNMARK"}
FIELD = {"mark": "packet mark", "ctmark": "conntrack mark"}


def masked_set(line: Line, field: Field, value: int) -> str:
    """Write a value under a mask; its own bits stand for the mask where nobody gave one."""
    mark = Mark(value, value or 1)
    clear = "" if value else " (M: the bits that are yours)"
    if line.kind == "nft":
        name = NFT[field]
        if not value:
            return f"{name} set {name} & ~M{clear}"
        return f"{name} set {name} & {WORD & ~mark.mask:#010x} | {value:#x}"
    if line.kind == "bpf":
        return f"mark = mark & {WORD & ~mark.mask:#010x} | {value:#x}"
    if line.kind in ("tc", "xfrm"):
        return f"the value under a mask, {mark if value else '0x0/M'}{clear}"
    shown = f"{mark}" if value else "0x0/M"
    return f"-j {TARGET[field]} --set-xmark {shown}{clear}"


def masked_test(line: Line, field: Field, value: int) -> str:
    """Write a comparison that looks at the value's own bits only."""
    if line.kind == "nft":
        return f"{NFT[field]} & {value:#x} == {value:#x}"
    if line.kind == "policy":
        return f"fwmark {value:#x}/{value:#x}"
    if line.kind == "bpf":
        return f"mark & {value:#x} == {value:#x}"
    if line.kind in ("tc", "xfrm"):
        return f"the value under a mask, {value:#x}/{value:#x}"
    return f"-m {'mark' if field == 'mark' else 'connmark'} --mark {value:#x}/{value:#x}"


def copied_by_bits(field: Field, mask: int) -> str:
    """Copy bits between the marks in nft: a pair of rules for each bit, which keeps the others."""
    to, other = NFT[field], NFT["ctmark" if field == "mark" else "mark"]
    bit = mask & -mask
    pair = (
        f"{other} & {bit:#x} == 0 {to} set {to} & {WORD & ~bit:#010x}   and   "
        f"{other} & {bit:#x} == {bit:#x} {to} set {to} | {bit:#x}"
    )
    return pair if mask == bit else f"for each bit a pair of rules, such as   {pair}"
