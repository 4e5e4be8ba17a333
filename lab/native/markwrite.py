"""What a rule writes to a mark, read from its text [pure].

Every write is one formula, ``(old & kept) ^ (other & copies) ^ xor``, where ``other`` is the other
one of packet mark and ctmark. Understands iptables (MARK, CONNMARK, TPROXY), nft ``meta mark set``,
``mark set`` and ``ct mark set``, and ``mark = …`` of the lab's eBPF lines. The counterpart of
:mod:`lab.native.marktest`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from lab.marks import WORD, Mark
from lab.native import bpf_text
from lab.native.nft_expression import read
from lab.traffic.flow import Field

_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|--comment \S+')
_TARGET = re.compile(r"(?:^| )(?:-j|--jump) (MARK|CONNMARK|TPROXY)(?= |$)")
_OPTION = re.compile(
    r"--(set-mark|set-xmark|and-mark|or-mark|xor-mark|save-mark|restore-mark|tproxy-mark"
    r"|nfmask|ctmask|mask)(?:[ =]([^\s-]\S*))?(?= |$)"
)
_NFT_SET = re.compile(r"(?:\b(meta|ct) )?(?<![\w.-])mark set ")
_COMPUTED = re.compile(r"\s*(?:[&|^.]|<<|>>|(?:and|or|xor|map|mod|offset)\b)")
"""What may follow an operand and makes more of it than this reads."""


@dataclass(frozen=True, slots=True)
class MarkWrite:
    """One write to the packet mark or ctmark: ``(old & kept) ^ (other & copies) ^ xor``.

    ``opaque`` tells that the value cannot be read from the text, such as a map's. ``form`` is the
    option as written, ``written`` the value under its mask where there is one.
    """

    field: Field
    kept: int
    copies: int = 0
    xor: int = 0
    opaque: bool = False
    form: str = "set"
    written: Mark | None = None

    @property
    def changes(self) -> int:
        """Return the bits that may come out otherwise, whatever stood there."""
        return (WORD & ~self.kept) | self.copies | self.xor

    @property
    def formula(self) -> tuple[Field, int, int, int, bool]:
        """Return what it does, however it is written."""
        return self.field, self.kept, self.copies, self.xor, self.opaque

    @property
    def sets(self) -> int:
        """Return the bits that the rule itself can set."""
        return WORD if self.opaque else self.xor

    @property
    def whole(self) -> bool:
        """Tell whether no bit of the old word is kept."""
        return self.kept == 0


@lru_cache(maxsize=8192)
def writes(text: str) -> tuple[MarkWrite, ...]:
    """List what a rule writes, in its order; nothing if it writes no mark.

    Kept, as rules are met again and again. Raises ValueError for a number that does not fit.
    """
    return tuple(_writes(text))


def _writes(text: str) -> Iterator[MarkWrite]:
    if text.startswith("tc "):
        yield from _program(text)
        return
    bare = _COMMENT.sub("", text)
    if found := _TARGET.search(bare):
        options = {name: value or "" for name, value in _OPTION.findall(bare)}
        yield from _xtables(found[1], options)
    else:
        yield from _nft(bare)


def _program(text: str) -> Iterator[MarkWrite]:
    if write := bpf_text.parse(text).write:
        yield MarkWrite("mark", write.keep, xor=write.bits)


def _xtables(target: str, options: Mapping[str, str]) -> Iterator[MarkWrite]:
    if target == "TPROXY":
        if options.get("tproxy-mark"):
            yield _set("mark", "tproxy-mark", Mark.parse(options["tproxy-mark"]))
        return
    field: Field = "mark" if target == "MARK" else "ctmark"
    for form, value in options.items():
        if form in ("save-mark", "restore-mark"):
            yield _copy(form, options)
        elif value and form not in ("nfmask", "ctmask", "mask", "tproxy-mark"):
            yield _set(field, form, Mark.parse(value))


def _set(field: Field, form: str, mark: Mark) -> MarkWrite:
    kept, xor = {
        # --set-mark clears the value's bits as well as the mask's (libxt_MARK.c).
        "set-mark": (WORD & ~(mark.mask | mark.value), mark.value),
        "and-mark": (mark.value, 0),
        "or-mark": (WORD & ~mark.value, mark.value),
        "xor-mark": (WORD, mark.value),
    }.get(form, (WORD & ~mark.mask, mark.value))
    return MarkWrite(field, kept, xor=xor, form=form, written=mark)


def _copy(form: str, options: Mapping[str, str]) -> MarkWrite:
    both = options.get("mask") or f"{WORD:#x}"
    nfmask = Mark.parse(options.get("nfmask") or both).value
    ctmask = Mark.parse(options.get("ctmask") or both).value
    if form == "save-mark":
        return MarkWrite("ctmark", WORD & ~ctmask, copies=nfmask, form=form)
    return MarkWrite("mark", WORD & ~nfmask, copies=ctmask, form=form)


def _nft(text: str) -> Iterator[MarkWrite]:
    for found in _NFT_SET.finditer(text):
        field: Field = "ctmark" if found[1] == "ct" else "mark"
        value, end = read(text, found.end())
        if value is None or _COMPUTED.match(text, end):
            yield MarkWrite(field, 0, opaque=True)
        elif field == "mark":
            yield MarkWrite(field, value.mark, value.ctmark, value.constant)
        else:
            yield MarkWrite(field, value.ctmark, value.mark, value.constant)
