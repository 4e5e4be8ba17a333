"""Load native nft rules through libnftables, and list what stands in the tables."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from lab.errors import EntryError, RuleRefused
from lab.kernel import command
from lab.kernel.command import silent
from lab.kernel.nftables import Nft
from lab.native import nft_text
from lab.native.iptables_text import Change
from lab.native.lines import placed
from lab.native.rule import Rule
from lab.registry.software import Ruleset
from lab.rules.installed import Installed

_POSITION = re.compile(r"(?:/dev/stdin|<cmdline>|-):(\d+):(?:\d+-\d+: )?")


def install(software: str, ruleset: Ruleset, installed: Installed, nft: Nft) -> None:
    """Load one ruleset in one transaction and note whose rules they are.

    Raises RuleRefused with file and line where nft does not take it.
    """
    try:
        _check(ruleset.text)
    except ValueError as problem:
        raise EntryError(placed(str(problem), ruleset.file, ruleset.line)) from None
    _, error = nft.run(ruleset.text + "\n")
    if error:
        # libnftables names no line of a buffer; the program does, of its input.
        told = command.run(("nft", "-c", "-f", "-"), ruleset.text + "\n").error
        raise RuleRefused(_refusal(told or error, ruleset))
    for change, rule in _noted(software, ruleset):
        installed.nftables.apply(change, rule)


@lru_cache(maxsize=512)
def _check(text: str) -> None:
    nft_text.check(text)


@lru_cache(maxsize=512)
def _noted(software: str, ruleset: Ruleset) -> tuple[tuple[Change, Rule], ...]:
    found = nft_text.rules(ruleset.text, ruleset.source)
    return tuple(_note(one, software, ruleset) for one in found)


def _refusal(error: str, ruleset: Ruleset) -> str:
    found = _POSITION.search(error)
    number = int(found[1]) if found else 1
    lines = ruleset.text.split("\n")
    text = lines[number - 1].strip() if number <= len(lines) else ""
    reason = _POSITION.sub("", error.splitlines()[0]).replace("Error: ", "")
    return f"{ruleset.file}:{ruleset.line + number - 1}: nft refused {text!r}: {reason}"


def _note(found: nft_text.NftRule, software: str, ruleset: Ruleset) -> tuple[Change, Rule]:
    rule = Rule(
        software,
        "nft",
        f"{found.family} {found.table}",
        found.chain,
        found.text,
        source=found.source,
        file=ruleset.file,
        line=ruleset.line + found.number,
    )
    change = Change(
        "insert" if found.position else "append",
        rule.table,
        rule.chain,
        found.position or 1,
        "",
        found.text,
        found.number,
        found.source,
    )
    return change, rule


def list_rules(installed: Installed, nft: Nft) -> None:
    """Add to each native rule the text in which nft lists it.

    Only tables with such rules are listed: nft 1.0 aborts on some matches of the recorder's.
    """
    chains = installed.nftables.chains.values()
    tables = {rule.table for rules in chains for rule in rules if rule.tool == "nft"}
    listed = listing(nft, *sorted(tables))
    for key, rules in installed.nftables.chains.items():
        texts = listed.get(key, [])
        if len(texts) == len(rules):
            installed.nftables.chains[key] = [
                replace(rule, listed=text) if rule.tool == "nft" else rule
                for rule, text in zip(rules, texts, strict=True)
            ]


def listing(nft: Nft, *tables: str) -> dict[tuple[str, str], list[str]]:
    """Return the rules of the current namespace, by the ledger's table and chain, in order.

    Those of the given tables, or all. One table at a time: of several, nft lists the last alone.
    """
    commands = [f"list table {table}" for table in tables] or ["list ruleset"]
    with silent():  # libxtables complains there of targets that it cannot name
        output = "".join(nft.run(command)[0] for command in commands)
    found: dict[tuple[str, str], list[str]] = {}
    for rule in nft_text.rules(output):
        found.setdefault((f"{rule.family} {rule.table}", rule.chain), []).append(rule.text)
    return found
