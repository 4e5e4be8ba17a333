"""The kernel's listing of each installed rule, kept from one experiment to the next.

Listing costs a process; the same rule is listed alike wherever it stands, so only rules never
seen before are looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lab.kernel.nftables import Nft
from lab.native.ledger import Ledger
from lab.native.rule import Rule
from lab.rules import iptables, nft
from lab.rules.installed import Installed

Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class Listings:
    """Listed texts by tool, variant, table, chain and written text."""

    known: dict[Key, str] = field(default_factory=dict)

    def name(self, installed: Installed, context: Nft) -> None:
        """Add to each rule of one node the text in which the kernel lists it.

        The calling thread must be in the node's namespace.
        """
        if any(_key(rule, installed) not in self.known for rule in _rules(installed)):
            self._look_up(installed, context)
        for ledger in (installed.nftables, installed.legacy):
            _apply(ledger, installed, self.known)

    def _look_up(self, installed: Installed, context: Nft) -> None:
        tools = {rule.tool for rule in _rules(installed)}
        if "iptables" in tools:
            iptables.list_rules(installed)
        if "nft" in tools:
            nft.list_rules(installed, context)
        for rule in _rules(installed):
            self.known.setdefault(_key(rule, installed), rule.listed)


def _rules(installed: Installed) -> list[Rule]:
    chains = [*installed.nftables.chains.values(), *installed.legacy.chains.values()]
    return [rule for chain in chains for rule in chain]


def _key(rule: Rule, installed: Installed) -> Key:
    return rule.tool, installed.variant, rule.table, rule.chain, rule.written


def _apply(ledger: Ledger, installed: Installed, known: dict[Key, str]) -> None:
    for name, rules in ledger.chains.items():
        ledger.chains[name] = [
            replace(rule, listed=known.get(_key(rule, installed), "")) for rule in rules
        ]
