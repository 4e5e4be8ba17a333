"""What the checks look at: rules, policy rules, routes and sysctls of all files together [pure]."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lab.marks import WORD
from lab.native.marktest import MarkTest
from lab.native.markwrite import MarkWrite
from lab.traffic.flow import Field

Kind = Literal["iptables", "nft", "policy", "route", "sysctl", "tc", "xfrm", "bpf"]
_LEAVING = re.compile(r"\b(?:egress|root)\b|\bparent (?!ffff:)")
ChainName = tuple[str, str, str]
"""Family and file, table, chain: what tells one chain from another."""


@dataclass(frozen=True, slots=True)
class Line:
    """One rule, policy rule, route or sysctl, and what it does with marks."""

    kind: Kind
    file: str
    number: int
    text: str
    chain: ChainName = ("", "", "")
    tests: tuple[MarkTest, ...] = ()
    writes: tuple[MarkWrite, ...] = ()
    bare: str = ""
    """The text without comments and quoted strings."""

    def known(self, which: Field) -> int:
        """Return the bits that the rule has compared before it writes."""
        mask = 0
        for test in self.tests:
            if test.field == which and test.equal:
                mask |= test.mark.mask
        return mask

    @property
    def arriving(self) -> bool:
        """Tell whether it acts on packets from outside, whose mark is still 0.

        tc's actions are taken for such unless the line says that they are at egress: a listing
        names the place elsewhere.
        """
        if self.kind == "bpf":
            return self.text.startswith("tc ingress ")
        return self.kind == "tc" and not _LEAVING.search(self.text)

    def erased(self, write: MarkWrite) -> int:
        """Return the bits a write changes that the rule has not compared: others' may be there."""
        if self.arriving:
            return 0
        return WORD & ~write.kept & ~self.known(write.field)


@dataclass(frozen=True, slots=True)
class Base:
    """Where a chain hooks in: ``type`` is that of nft, or the table's name of iptables."""

    type: str
    hook: str


@dataclass(frozen=True)
class Subject:
    """Everything that is linted together, and who wrote it where that is known."""

    lines: tuple[Line, ...]
    bases: dict[ChainName, Base]
    jumps: dict[ChainName, frozenset[ChainName]]
    xtables: frozenset[ChainName] = frozenset()
    """Tables (with an empty chain) that iptables-nft made, printed by nft."""
    owner: str = ""

    def of(self, *kinds: Kind) -> Iterator[Line]:
        """Yield the lines of some kinds."""
        return (line for line in self.lines if line.kind in kinds)

    @cached_property
    def reached(self) -> dict[ChainName, frozenset[Base]]:
        """From which base chains each chain is reached."""
        found: dict[ChainName, set[Base]] = {}
        for start, base in self.bases.items():
            todo, seen = [start], {start}
            while todo:
                chain = todo.pop()
                found.setdefault(chain, set()).add(base)
                fresh = self.jumps.get(chain, frozenset()) - seen
                seen |= fresh
                todo += fresh
        return {chain: frozenset(bases) for chain, bases in found.items()}

    def bases_of(self, line: Line) -> frozenset[Base]:
        """Return the base chains from which a rule is reached."""
        return self.reached.get(line.chain, frozenset())

    def printed_by_nft(self, line: Line) -> bool:
        """Tell whether nft printed a rule of iptables-nft, masks not included.

        nft writes ``&`` itself; ``and`` in a listing (which has counters) comes from iptables'
        extensions. The warning that names such tables goes to standard error and is often lost.
        """
        listed = "counter packets " in line.bare and " and 0x" in line.bare
        return listed or (*line.chain[:2], "") in self.xtables
