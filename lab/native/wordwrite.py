"""What becomes of the whole word of a mark when a rule writes it, read from its text [pure].

Every write is one formula, ``(old & kept) ^ (other & copied) ^ xor``, where ``other`` is the other
one of packet mark and ctmark. :mod:`lab.native.markwrite` says which bits are whose; this says
exactly what the kernel computes. Understands MARK, CONNMARK, TPROXY and nft's ``mark set``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lab.marks import WORD, Mark
from lab.native.nft_expression import bitwise
from lab.traffic.flow import Field

_TARGET = re.compile(r"(?:^| )(?:-j|--jump) (MARK|CONNMARK|TPROXY)(?= |$)")
_OPTION = re.compile(
    r"--(set-mark|set-xmark|and-mark|or-mark|xor-mark|save-mark|restore-mark|tproxy-mark"
    r"|nfmask|ctmask|mask)(?:[ =]([^\s-]\S*))?(?= |$)"
)
_NFT_SET = re.compile(r"\b(meta|ct) mark set (.+)")
_NFT_NEXT = re.compile(
    r" (?:counter|accept|drop|return|continue|jump|goto|queue|reject|log|meta [a-z]\w* set"
    r"|ct [a-z]\w* set|masquerade|snat|dnat|redirect|tproxy|comment|notrack|limit)\b"
)


@dataclass(frozen=True, slots=True)
class WordWrite:
    """One change of a mark: ``(old & kept) ^ (other & copied) ^ xor``.

    ``opaque`` tells that the value cannot be read from the text, such as a map's. ``form`` is the
    option as written, ``written`` the value under its mask where there is one.
    """

    field: Field
    kept: int
    copied: int = 0
    xor: int = 0
    opaque: bool = False
    form: str = "set"
    written: Mark | None = None

    @property
    def touched(self) -> int:
        """Return the bits that may change."""
        return (WORD & ~self.kept) | self.copied | self.xor

    @property
    def whole(self) -> bool:
        """Tell whether no bit of the old word is kept."""
        return self.kept == 0


def word_writes(text: str) -> Iterator[WordWrite]:
    """Yield what a rule writes, in its order. Raises ValueError for a number that does not fit."""
    if found := _TARGET.search(text):
        options = {name: value or "" for name, value in _OPTION.findall(text)}
        yield from _xtables(found[1], options)
        return
    for kind, rest in _nft_sets(text):
        yield _nft("mark" if kind == "meta" else "ctmark", rest)


def _xtables(target: str, options: Mapping[str, str]) -> Iterator[WordWrite]:
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


def _set(field: Field, form: str, mark: Mark) -> WordWrite:
    kept, xor = {
        # --set-mark clears the value's bits as well as the mask's (libxt_MARK.c).
        "set-mark": (WORD & ~(mark.mask | mark.value), mark.value),
        "and-mark": (mark.value, 0),
        "or-mark": (WORD & ~mark.value, mark.value),
        "xor-mark": (WORD, mark.value),
    }.get(form, (WORD & ~mark.mask, mark.value))
    return WordWrite(field, kept, xor=xor, form=form, written=mark)


def _copy(form: str, options: Mapping[str, str]) -> WordWrite:
    both = options.get("mask") or f"{WORD:#x}"
    nfmask = Mark.parse(options.get("nfmask") or both).value
    ctmask = Mark.parse(options.get("ctmask") or both).value
    if form == "save-mark":
        return WordWrite("ctmark", WORD & ~ctmask, copied=nfmask, form=form)
    return WordWrite("mark", WORD & ~nfmask, copied=ctmask, form=form)


def _nft_sets(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while found := _NFT_SET.search(text, position):
        end = _NFT_NEXT.search(text, found.start(2))
        stop = end.start() if end else len(text)
        yield found[1], text[found.start(2) : stop].strip()
        position = stop


def _nft(field: Field, text: str) -> WordWrite:
    found = bitwise(text)
    if found is None:
        return WordWrite(field, 0, opaque=True)
    own, other = (found.mark, found.ctmark) if field == "mark" else (found.ctmark, found.mark)
    return WordWrite(field, own, copied=other, xor=found.constant)
