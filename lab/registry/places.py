"""Several programs' listed rules, installed one after the other, each rule in its old place [pure].

A listing shows rules of many programs in one chain. Each program is installed on its own, so a
rule that is to stand before one that is there already is inserted at its position.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from lab.native import nft_text
from lab.native.iptables_text import BUILTIN, Change, changes
from lab.registry.software import Ruleset, Software

ChainName = tuple[str, str, str]
"""File, table, chain: a listing's chain, told from that of another variant or family."""


@dataclass(slots=True)
class _Books:
    """The lines that stand in each chain so far, in order, and the chains that were made."""

    lines: dict[ChainName, list[int]] = field(default_factory=dict)
    made: set[ChainName] = field(default_factory=set)

    def put(self, chain: ChainName, line: int) -> int:
        """Note a rule; return the place before which it comes, from 1, or 0 for the end."""
        there = self.lines.setdefault(chain, [])
        place = bisect(there, line)
        there.insert(place, line)
        return place + 1 if place < len(there) - 1 else 0


def arranged(software: Sequence[Software]) -> tuple[Software, ...]:
    """Return software whose listed rules, installed in this order, stand as they were listed.

    What is not listed is left as it is.
    """
    books = _Books()
    return tuple(
        replace(one, rulesets=tuple(_arranged(ruleset, books) for ruleset in one.rulesets))
        if any(ruleset.listed for ruleset in one.rulesets)
        else one
        for one in software
    )


def _arranged(ruleset: Ruleset, books: _Books) -> Ruleset:
    if not ruleset.listed or ruleset.tool not in ("iptables", "nft"):
        return ruleset
    lines = ruleset.text.split("\n")
    found = _iptables(ruleset, books) if ruleset.tool == "iptables" else _nft(ruleset, books)
    for number, text in found:
        lines[number] = text
    return replace(ruleset, text="\n".join(lines))


def _iptables(ruleset: Ruleset, books: _Books) -> Iterator[tuple[int, str]]:
    for change in changes(ruleset.text):
        chain = (ruleset.file, change.table, change.chain)
        if change.verb == "append":
            place = books.put(chain, change.number)
            if place:
                yield change.number, f"-I {change.chain} {place} {change.spec}"
        elif change.verb == "declare" and not _is_built_in(change):
            if chain in books.made:  # another ':' line would empty it
                yield change.number, ""
            books.made.add(chain)


def _is_built_in(change: Change) -> bool:
    return change.chain in BUILTIN[change.table]


def _nft(ruleset: Ruleset, books: _Books) -> Iterable[tuple[int, str]]:
    for rule in nft_text.rules(ruleset.text):
        table = f"{rule.family} {rule.table}"
        place = books.put((ruleset.file, table, rule.chain), rule.number)
        if place:
            yield rule.number, f"insert rule {table} {rule.chain} index {place - 1} {rule.text}"
