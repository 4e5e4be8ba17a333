"""The kernel's listing of each installed rule, kept from one experiment to the next.

Listing costs a process; the same rule is listed alike wherever it stands, so only rules never
seen before are looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lab.kernel.nftables import Nft
from lab.native.ledger import Ledger
from lab.native.marktest import tests
from lab.native.markwrite import writes
from lab.native.rule import Rule
from lab.rules import iptables, nft
from lab.rules.installed import Installed

Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class Listings:
    """Listed texts by tool, variant, table, chain and written text."""

    known: dict[Key, str] = field(default_factory=dict)

    def name(self, installed: Installed, context: Nft) -> tuple[str, ...]:
        """Add to each rule of one node the text in which the kernel lists it.

        The calling thread must be in the node's namespace. Returns what is wrong: rules whose
        listing tests or writes other marks than their text. The tool then put a rule where it was
        not asked to (iptables-nft 1.8.9 does, inserting behind a flush), and none can be blamed.
        """
        if any(_key(rule, installed) not in self.known for rule in _rules(installed)):
            self._look_up(installed, context)
        for ledger in (installed.nftables, installed.legacy):
            _apply(ledger, installed, self.known)
        strange = [rule for rule in _rules(installed) if not _agree(rule.written, rule.listed)]
        for rule in strange:
            self.known.pop(_key(rule, installed), None)
        return tuple(f"where {rule} stands, the kernel has {rule.listed}" for rule in strange)

    def _look_up(self, installed: Installed, context: Nft) -> None:
        tools = {rule.tool for rule in _rules(installed)}
        if "iptables" in tools:
            iptables.list_rules(installed)
        if "nft" in tools:
            nft.list_rules(installed, context)
        for rule in _rules(installed):
            self.known.setdefault(_key(rule, installed), rule.listed)


def _agree(written: str, listed: str) -> bool:
    """Tell whether two texts test and write the same marks; without a listing they do."""
    return not listed or (
        tests(written) == tests(listed)
        and [w.formula for w in writes(written)] == [w.formula for w in writes(listed)]
    )


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
