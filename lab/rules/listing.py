"""The kernel's listing of each installed rule, kept from one experiment to the next.

Listing costs a process; the same rule is listed alike wherever it stands, so only rules never
seen before are looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from lab.kernel.nftables import Nft
from lab.native.marktest import tests
from lab.native.markwrite import writes
from lab.native.rule import Rule
from lab.rules import iptables, nft
from lab.rules.installed import Installed
from lab.scenario import Variant

Key = tuple[str, str, str, str, str]
_MOST = 1 << 14


@dataclass(slots=True)
class Listings:
    """Listed texts by tool, variant, table, chain and written text.

    Entries are read once, so most rules come again as the same value: ``_named`` has these with
    their texts, by variant and identity.
    """

    known: dict[Key, str] = field(default_factory=dict)
    _named: dict[tuple[Variant, int], tuple[Rule, Rule]] = field(default_factory=dict)

    def name(self, installed: Installed, context: Nft) -> tuple[str, ...]:
        """Add to each rule of one node the text in which the kernel lists it.

        The calling thread must be in the node's namespace. Returns what is wrong: rules whose
        listing tests or writes other marks than their text. The tool then put a rule where it was
        not asked to (iptables-nft 1.8.9 does, inserting behind a flush), and none can be blamed.
        """
        if len(self._named) > _MOST:
            self._named.clear()
        variant = installed.variant
        found = {id(rule): rule for rule in _rules(installed)}
        new = [rule for number, rule in found.items() if (variant, number) not in self._named]
        if any(_key(rule, variant) not in self.known for rule in new):
            self._look_up(installed, context)
        for rule in new:
            listed = self.known.get(_key(rule, variant), "")
            self._named[variant, id(rule)] = rule, replace(rule, listed=listed)
        for ledger in (installed.nftables, installed.legacy):
            for name, chain in ledger.chains.items():
                ledger.chains[name] = [self._named[variant, id(rule)][1] for rule in chain]
        return tuple(self._strange(new, variant))

    def _look_up(self, installed: Installed, context: Nft) -> None:
        tools = {rule.tool for rule in _rules(installed)}
        ledgers = installed.nftables, installed.legacy
        written = [dict(ledger.chains) for ledger in ledgers]
        if "iptables" in tools:
            iptables.list_rules(installed)
        if "nft" in tools:
            nft.list_rules(installed, context)
        for rule in _rules(installed):
            self.known.setdefault(_key(rule, installed.variant), rule.listed)
        for ledger, chains in zip(ledgers, written, strict=True):
            ledger.chains = chains

    def _strange(self, rules: Iterable[Rule], variant: Variant) -> Iterator[str]:
        """Say which rules the kernel lists as others, and forget these listings."""
        for rule in rules:
            listed = self._named[variant, id(rule)][1]
            if not _agree(rule.written, listed.listed):
                del self._named[variant, id(rule)]
                self.known.pop(_key(rule, variant), None)
                yield f"where {listed} stands, the kernel has {listed.listed}"


def _agree(written: str, listed: str) -> bool:
    """Tell whether two texts test and write the same marks; without a listing they do."""
    return not listed or (
        tests(written) == tests(listed)
        and [w.formula for w in writes(written)] == [w.formula for w in writes(listed)]
    )


def _rules(installed: Installed) -> list[Rule]:
    chains = [*installed.nftables.chains.values(), *installed.legacy.chains.values()]
    return [rule for chain in chains for rule in chain]


def _key(rule: Rule, variant: Variant) -> Key:
    return rule.tool, variant, rule.table, rule.chain, rule.written
