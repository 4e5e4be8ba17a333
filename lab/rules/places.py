"""Whether listed rules stand in the kernel as they were listed."""

from __future__ import annotations

from collections.abc import Callable, Collection

from lab.errors import RuleRefused
from lab.kernel.nftables import Nft
from lab.native import normal
from lab.native.ledger import ChainName, Ledger
from lab.native.normal import Normal
from lab.native.rule import Rule
from lab.rules import iptables, nft
from lab.rules.installed import Installed

Listing = dict[ChainName, list[str]]


def check(installed: Installed, context: Nft, files: Collection[str]) -> None:
    """Compare every chain that has rules of ``files`` with the kernel's own listing.

    The calling thread must be in the node's namespace. Raises RuleRefused with the first rule
    that stands elsewhere or says something else.
    """
    if _has(installed.legacy, "iptables"):
        _compare(installed.legacy, iptables.listing(installed, "legacy"), "iptables", files)
    if _has(installed.nftables, "iptables"):
        _compare(installed.nftables, iptables.listing(installed, "nft"), "iptables", files)
    if _has(installed.nftables, "nft"):
        _compare(installed.nftables, nft.listing(context), "nft", files)


def _has(ledger: Ledger, tool: str) -> bool:
    return any(rule.tool == tool for rules in ledger.chains.values() for rule in rules)


def _compare(ledger: Ledger, listing: Listing, tool: str, files: Collection[str]) -> None:
    said: Callable[[str], Normal] = normal.iptables if tool == "iptables" else normal.nft
    mixed = {
        table
        for (table, _), rules in ledger.chains.items()
        if any(rule.tool != tool for rule in rules)
    }
    for name, rules in ledger.chains.items():
        if not rules or name[0] in mixed:
            continue  # neither program lists what the other has put into a table
        listed = listing.get(name, [])
        for rule, text in zip(rules, listed, strict=False):
            if rule.file in files and said(rule.written) != said(text):
                raise RuleRefused(f"{_place(rule)}: the kernel has {text!r} in its place")
        if len(listed) != len(rules):
            raise RuleRefused(
                f"{_place(rules[0])}: the kernel has {len(listed)} rules in {rules[0].where}, "
                f"not {len(rules)}"
            )


def _place(rule: Rule) -> str:
    return f"{rule.file}:{rule.line}: {rule.written!r}"
