"""Arithmetic on the 32-bit words of ``skb->mark`` and ``ct->mark``."""

from __future__ import annotations

import re
from dataclasses import dataclass

WORD = 0xFFFFFFFF
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A value under a mask, as in ``-m mark --mark value/mask`` and ``--set-xmark value/mask``.

    Both are unsigned 32-bit words. ``Mark.parse("0x4000/0x4000")`` reads the native notation;
    without a mask all 32 bits count. Raises ValueError where a number does not fit.
    """

    value: int
    mask: int = WORD

    def __post_init__(self) -> None:
        for number in (self.value, self.mask):
            if not 0 <= number <= WORD:
                raise ValueError(f"{number:#x} does not fit in 32 bits")

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Read ``value`` or ``value/mask``, each in hex or decimal."""
        value, slash, mask = text.strip().partition("/")
        return cls(_number(value), _number(mask) if slash else WORD)

    def matches(self, word: int) -> bool:
        """Tell whether ``-m mark --mark`` would match: the masked bits equal the value."""
        return word & self.mask == self.value

    def write(self, word: int) -> int:
        """Apply the xmark rule: zero the masked bits, then XOR the value in."""
        return (word & ~self.mask & WORD) ^ self.value

    def overlaps(self, other: Mark) -> bool:
        """Tell whether both masks share a bit."""
        return bool(self.mask & other.mask)

    def __str__(self) -> str:
        return f"{self.value:#x}" if self.mask == WORD else f"{self.value:#x}/{self.mask:#x}"


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is not a number; expected hex such as 0x4000 or decimal")
    return int(text.strip(), 0) if text.strip().lower().startswith("0x") else int(text)


def bit_ranges(mask: int) -> str:
    """Write a mask as bit numbers, least significant first: ``0xc001`` is ``0,14-15``."""
    runs: list[list[int]] = []
    for bit in (b for b in range(32) if mask >> b & 1):
        if runs and bit == runs[-1][-1] + 1:
            runs[-1].append(bit)
        else:
            runs.append([bit])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs) or "none"


def word(number: int | None) -> str:
    """Print a whole word the way the reports do: eight hex digits, or ``-`` where none was read."""
    return "-" if number is None else f"0x{number:08x}"
