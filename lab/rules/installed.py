"""What was installed on one node so far: rules by position, by handle and by priority."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.native.ledger import Ledger
from lab.native.lines import Line
from lab.native.rule import Rule
from lab.registry.software import Ruleset
from lab.scenario import Variant
from lab.traffic.flow import Family


@dataclass(slots=True)
class Installed:
    """The rules of one node: one ledger for nf_tables (iptables-nft and nft), one for legacy.

    Tables of the nf_tables ledger are named with their family, as ``ip mangle``.
    """

    family: Family
    variant: Variant
    nftables: Ledger = field(default_factory=Ledger)
    legacy: Ledger = field(default_factory=Ledger)
    policy: list[Rule] = field(default_factory=list)
    others: list[Rule] = field(default_factory=list)

    @property
    def keyword(self) -> str:
        """Return nft's name of the address family."""
        return "ip" if self.family == "ipv4" else "ip6"

    def everything(self) -> list[Rule]:
        """List every rule that a packet can meet."""
        chains = [*self.nftables.chains.values(), *self.legacy.chains.values()]
        return [rule for chain in chains for rule in chain] + self.policy + self.others


def of_line(software: str, ruleset: Ruleset, line: Line, table: str = "") -> Rule:
    """Return the rule that a line is where a tool has no chains; its table is else the tool."""
    return Rule(
        software,
        ruleset.tool,
        table or ruleset.tool,
        "",
        line.text,
        source=line.source,
        file=ruleset.file,
        line=ruleset.line + line.number,
    )
