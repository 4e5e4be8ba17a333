"""Who put which rule where: chains as lists of rules, replayed in the order of installation.

The kernel tells a rule by its position or handle only. Replaying every software's lines over the
same list gives each position its owner, its text as written and its source.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lab.native.iptables_text import BUILTIN, Change
from lab.native.rule import Rule

ChainName = tuple[str, str]


@dataclass(slots=True)
class Ledger:
    """The chains of one backend (one of iptables-nft, iptables-legacy) in one namespace."""

    chains: dict[ChainName, list[Rule]] = field(default_factory=dict)

    def apply(self, change: Change, rule: Rule) -> None:
        """Replay one line of restore text that was accepted by the kernel."""
        chain = self.chains.setdefault((change.table, change.chain), [])
        if change.verb == "append":
            chain.append(rule)
        elif change.verb == "insert":
            chain.insert(change.position - 1, rule)
        elif change.verb == "replace":
            chain[change.position - 1] = rule
        elif change.verb == "flush" or (change.verb == "declare" and not _builtin(change)):
            chain.clear()
        elif change.verb == "delete":
            _delete(chain, change)

    def name(self, listing: dict[ChainName, list[str]]) -> None:
        """Add the kernel's listing to each rule; chains of another length keep their text."""
        for key, rules in self.chains.items():
            listed = listing.get(key, [])
            if len(listed) == len(rules):
                self.chains[key] = [
                    replace(rule, listed=text) for rule, text in zip(rules, listed, strict=True)
                ]

    def at(self, table: str, chain: str, position: int) -> Rule | None:
        """Return the rule at a position (from 1), or None where the lab put none."""
        rules = self.chains.get((table, chain), [])
        return rules[position - 1] if 0 < position <= len(rules) else None


def _builtin(change: Change) -> bool:
    # A built-in chain keeps its rules under --noflush; a user chain is flushed by its ':' line.
    return change.chain in BUILTIN.get(change.table.rpartition(" ")[2], ())


def _delete(chain: list[Rule], change: Change) -> None:
    if not change.spec:
        del chain[change.position - 1]
        return
    for index, rule in enumerate(chain):
        if rule.written.partition(" ")[2].partition(" ")[2] == change.spec:
            del chain[index]
            return
