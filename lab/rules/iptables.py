"""Load iptables rules with ``iptables-restore --noflush``, in the nft or the legacy variant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from lab.errors import EntryError, RuleRefused, UnsupportedError
from lab.kernel import command
from lab.native.iptables_text import Change, changes, saved
from lab.native.lines import placed
from lab.native.rule import Rule
from lab.registry.software import Ruleset
from lab.rules import again
from lab.rules.installed import Installed
from lab.scenario import Variant
from lab.traffic.flow import Family

_LINE = re.compile(r"line:? (\d+)")
Owned = tuple[str, Ruleset]
"""A ruleset, with the title of its software before it."""


def install(owned: Sequence[Owned], installed: Installed) -> None:
    """Load rulesets into the current namespace, in one process, and note whose rules they are.

    All are of one variant of iptables.
    Raises RuleRefused with file and line where iptables-restore does not take a rule.
    """
    variant = owned[0][1].variant or installed.variant
    keyword = installed.keyword if variant == "nft" else ""
    noted = [pair for software, ruleset in owned for pair in _noted(software, ruleset, keyword)]
    text = "".join(ruleset.text + "\n" for _, ruleset in owned)
    empty = again.is_empty(installed, variant, text)
    if not (empty and again.put(installed, variant, text)):
        _load([ruleset for _, ruleset in owned], text, _program(installed.family, variant))
    ledger = installed.legacy if variant == "legacy" else installed.nftables
    for change, rule in noted:
        ledger.apply(change, rule)
    if empty and len({software for software, _ in owned}) == 1:  # others are hardly met again
        again.learn(installed, variant, text)


def _load(rulesets: Sequence[Ruleset], text: str, program: str) -> None:
    result = command.run((f"{program}-restore", "--noflush"), text)
    if result.status:
        _check_users(rulesets)
        raise RuleRefused(_refusal(f"{program}-restore", result.error, rulesets))


def _check_users(rulesets: Sequence[Ruleset]) -> None:
    """Tell a refused owner match of an ordinary user from a wrong one.

    A user namespace that an ordinary user makes knows one user only.
    """
    owners = [ruleset for ruleset in rulesets if "--uid-owner" in ruleset.text]
    if owners and not Path("/proc/self/uid_map").read_text().split()[2].startswith("4294967295"):
        raise UnsupportedError(
            f"{owners[0].file}: '-m owner --uid-owner' needs user ids that an ordinary user's "
            "namespace does not have; run as root"
        )


@lru_cache(maxsize=512)
def _noted(software: str, ruleset: Ruleset, keyword: str) -> tuple[tuple[Change, Rule], ...]:
    """List the changes that a ruleset makes, by the ledger's tables, and the rule of each."""
    try:
        return tuple(
            (_of_family(change, keyword), _rule(change, software, ruleset))
            for change in changes(ruleset.text, ruleset.source)
        )
    except ValueError as problem:
        raise EntryError(placed(str(problem), ruleset.file, ruleset.line)) from None


def _of_family(change: Change, keyword: str) -> Change:
    return replace(change, table=f"{keyword} {change.table}") if keyword else change


def _program(family: Family, variant: Variant) -> str:
    return f"{'iptables' if family == 'ipv4' else 'ip6tables'}-{variant}"


def _refusal(program: str, error: str, rulesets: Sequence[Ruleset]) -> str:
    found = _LINE.search(error)
    lines = [
        (ruleset, number) for ruleset in rulesets for number in range(len(ruleset.text.split("\n")))
    ]
    index = min(int(found[1]) - 1 if found else 0, len(lines) - 1)
    if _text(*lines[index]) == "COMMIT":
        index, error = _refused_at_commit(program, lines, index, error)
    ruleset, number = lines[index]
    told = " ".join(line for line in error.splitlines() if not line.startswith("Try "))
    reason = told or "no reason given"
    place = f"{ruleset.file}:{ruleset.line + number}"
    return f"{place}: {program} refused {_text(ruleset, number)!r}: {reason}"


def _refused_at_commit(
    program: str, lines: Sequence[tuple[Ruleset, int]], commit: int, error: str
) -> tuple[int, str]:
    """Find the rule for which a table was refused as a whole, by giving one rule after another.

    The experiment has failed already, so what this leaves in the namespace does not matter.
    """
    start = max(n for n in range(commit) if _text(*lines[n]).startswith("*"))
    table = _text(*lines[start])
    for index in range(start + 1, commit):
        text = _text(*lines[index])
        if text and not text.startswith("#"):
            result = command.run((program, "--noflush"), f"{table}\n{text}\nCOMMIT\n")
            if result.status:
                return index, result.error
    return commit, error


def _text(ruleset: Ruleset, number: int) -> str:
    return ruleset.text.split("\n")[number].strip()


def _rule(change: Change, software: str, ruleset: Ruleset) -> Rule:
    return Rule(
        software,
        "iptables",
        change.table,
        change.chain,
        change.text,
        source=change.source,
        file=ruleset.file,
        line=ruleset.line + change.number,
    )


def list_rules(installed: Installed) -> None:
    """Add to each rule the text in which iptables-save lists it."""
    if installed.legacy.chains:
        installed.legacy.name(listing(installed, "legacy"))
    if any(rule.tool == "iptables" for c in installed.nftables.chains.values() for rule in c):
        installed.nftables.name(listing(installed, "nft"))


def listing(installed: Installed, variant: Variant) -> dict[tuple[str, str], list[str]]:
    """Return the rules of the current namespace, by the ledger's table and chain, in order."""
    found = saved(command.run((f"{_program(installed.family, variant)}-save",)).output)
    if variant == "legacy":
        return found
    return {
        (f"{installed.keyword} {table}", chain): rules for (table, chain), rules in found.items()
    }
