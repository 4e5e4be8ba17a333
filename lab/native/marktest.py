"""Which bits a rule tests and writes, read from its text [pure].

Understands iptables (``-m mark``, ``-m connmark``, MARK, CONNMARK), nft expressions on
``meta mark`` (also plain ``mark``) and ``ct mark``, ``ip rule fwmark`` and the lab's eBPF programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from lab.marks import WORD, Mark
from lab.traffic.flow import Field

_IPTABLES = re.compile(r"-m (mark|connmark) (! )?--mark (\S+)")
_FWMARK = re.compile(r"\bfwmark (\S+)")
_NUMBER = r"(0x[0-9a-fA-F]+|\d+)"
_WORD = r"(?<![\w-])(?<!skbedit )(?:(meta|ct) )?mark"
_NFT_MASKED = re.compile(rf"{_WORD} (?:&|and) {_NUMBER} (==|!=)? ?{_NUMBER}")
_NFT_PLAIN = re.compile(rf"(?<!set ){_WORD} (==|!=)? ?{_NUMBER}(?:/(\d+))?(?! *[.:])")
_SETS = re.compile(r"(?<![\w-])mark set ")
_RESTORES = re.compile(r"--restore-mark|meta mark set ct mark")


@dataclass(frozen=True, slots=True)
class MarkTest:
    """A condition on the packet mark or ctmark; ``equal`` is False for ``!``/``!=``."""

    field: Field
    mark: Mark
    equal: bool

    def bits(self, word: int) -> int:
        """Return the set bits of a matching word that made the condition true.

        None (0) for a condition that holds because bits are clear.
        """
        if self.equal:
            return self.mark.value
        return word & self.mark.mask if self.mark.value == 0 else 0


@lru_cache(maxsize=8192)
def tests(text: str) -> tuple[MarkTest, ...]:
    """List the conditions on marks in a rule's text; kept, as rules are met again and again."""
    return tuple(_tests(text))


def _tests(text: str) -> Iterator[MarkTest]:
    for kind, inverted, mark in _IPTABLES.findall(text):
        yield MarkTest("mark" if kind == "mark" else "ctmark", _mark(mark), not inverted)
    for mark in _FWMARK.findall(text):
        yield MarkTest("mark", _mark(mark), not text.startswith(("not ", "rule add not ")))
    condition = text.split(" set ")[0] if _SETS.search(text) else text
    for kind, mask, operator, value in _NFT_MASKED.findall(condition):
        yield MarkTest(_field(kind), Mark(_int(value), _int(mask)), operator != "!=")
    for kind, operator, value, length in _NFT_PLAIN.findall(condition):
        # nft lists a mask of leading bits as a prefix length.
        mask = WORD & ~(WORD >> int(length)) if length else WORD
        yield MarkTest(_field(kind), Mark(_int(value), mask), operator != "!=")


def restores(text: str) -> bool:
    """Tell whether a rule copies the ctmark to the packet mark."""
    return bool(_RESTORES.search(text))


def saves(text: str) -> bool:
    """Tell whether a rule copies the packet mark to the ctmark."""
    return "--save-mark" in text or "ct mark set meta mark" in text


def _field(kind: str) -> Field:
    return "ctmark" if kind == "ct" else "mark"


def _mark(text: str) -> Mark:
    return Mark.parse(text)


def _int(text: str) -> int:
    return int(text, 0)
